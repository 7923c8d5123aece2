"""Flows that both type checkers accept."""

from __future__ import annotations

from typing import Any, assert_type

from asyncjobs import (
    INJECTED,
    PREVIOUS,
    AsyncJobs,
    Flow,
    FlowHandle,
    JobContext,
    Node,
    Workflow,
    chain,
    chord,
    group,
)

app = AsyncJobs()


@app.job
async def load(page: int) -> str:
    return str(page)


@app.job
async def size(text: str) -> int:
    return len(text)


@app.job
async def total(sizes: list[int]) -> float:
    return float(sum(sizes))


@app.job
async def save(total: float, to: str, *, ctx: JobContext = INJECTED) -> bool:
    assert ctx.flow is not None
    assert_type(await ctx.flow.expand(load.bind(1)), list[str])
    return total > 0 and bool(to)


async def main() -> None:
    assert_type(chain(load.bind(1), size), Workflow[int])
    assert_type(chain(load.bind(1), size.bind("other")), Workflow[int])
    assert_type(group(load.bind(n) for n in range(3)), Workflow[list[str]])
    assert_type(group(load.bind(1), load.bind(2)), Workflow[list[str]])
    sizes = group(chain(load.bind(n), size) for n in range(3))
    assert_type(chord(sizes, total), Workflow[float])
    assert_type(chord([size.bind("a")], total, on_failure="run"), Workflow[float])
    work = chain(chord(sizes, total), save.bind(PREVIOUS, "disk"))
    assert_type(work, Workflow[bool])
    handle = await app.flows.start(work, name="report", unique=True, context={"a": 1})
    assert_type(handle, FlowHandle[bool])
    assert_type(await handle.result(timeout=5), bool)
    flow = Flow()
    text = flow.add(load.bind(1), name="text")
    assert_type(text, Node[str])
    assert_type(text.result, str)
    assert_type(text.result_or(None), str | None)
    length = flow.add(size.bind(text.result), after={text: "run"})
    flow.add(total.bind([length.result, 5]), after=[text, "length"], on_failure="skip")
    assert_type(await app.flows.start(flow), FlowHandle[Any])
    assert_type(app.flows.start_sync(load.bind(1)), FlowHandle[str])
