"""Batch consumers that both type checkers accept, and the types they see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import assert_type

from asyncjobs import (
    INJECTED,
    AsyncJobs,
    Batch,
    BatchContext,
    BatchError,
    JobCall,
    JobContext,
    JobFunction,
    JobHandle,
    JobRegistry,
)

app = AsyncJobs()
registry = JobRegistry()


class Row: ...


@app.job(batch=Batch(size=500, window="50ms", max_bytes="1MiB", by="tenant"), queue="rows")
async def store(rows: list[Row]) -> None:
    raise BatchError({0: ValueError()})


@registry.job(batch=Batch(by=lambda row: row.tenant), retry=3)
async def price(rows: list[Row], *, ctx: BatchContext = INJECTED) -> list[float | Exception]:
    assert_type(ctx.items[0], JobContext)
    return [1.0, ValueError()]


@app.job(batch=Batch())
async def names(rows: list[Row]) -> Sequence[str]:
    return []


@app.job(batch=Batch(window=0.5))
def in_threads(ids: list[int]) -> list[str | Exception]:
    return ["" for _ in ids]


@app.job(batch=Batch())
def silent(ids: list[int]) -> None: ...


@app.job
async def waits(ids: list[int], *, ctx: JobContext = INJECTED) -> None:
    handles = [await in_threads.enqueue(id) for id in ids]
    assert_type(await ctx.gather(handles), list[str])
    assert_type(await ctx.gather(handles, timeout=5), list[str])
    assert_type(await ctx.gather(handles, return_exceptions=True), list[str | BaseException])


async def enqueues(row: Row) -> None:
    assert_type(store, JobFunction[[Row], None])
    assert_type(await store.enqueue(row), JobHandle[None])
    assert_type(await price.enqueue(row), JobHandle[float])
    assert_type(price.bind(row), JobCall[float])
    assert_type(await names.enqueue(row), JobHandle[str])
    assert_type(await in_threads.options(delay=3).enqueue(1), JobHandle[str])
    assert_type(await silent.enqueue(1), JobHandle[None])
    assert_type(await price(row), float)
