"""Isolation that both type checkers accept, and that keeps types."""

from __future__ import annotations

from typing import assert_type

from asyncjobs import AsyncJobs, JobHandle, MemoryLimit, ProcessDied, RetryPolicy, Worker

app = AsyncJobs()


@app.job(isolation="process", max_memory="512MiB", retry=RetryPolicy(3, on=ProcessDied))
def parse(path: str) -> int:
    return len(path)


@app.job(isolation="process", max_memory=1 << 29, discard_on=MemoryLimit)
async def fetch(path: str) -> str:
    return path


async def enqueues() -> None:
    assert_type(await parse.enqueue("a"), JobHandle[int])
    assert_type(await parse("a"), int)
    assert_type(await (await fetch.enqueue("a")).result(), str)
    Worker(app, job_processes=2)
