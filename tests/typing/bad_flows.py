"""Flows that both type checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from asyncjobs import AsyncJobs, Flow, chain, chord, group

app = AsyncJobs()


@app.job
async def load(page: int) -> str:
    return str(page)


@app.job
async def size(text: str) -> int:
    return len(text)


async def main() -> None:
    chain()  # error
    chain(load.bind(1), load)  # error
    group(load)  # error
    chord([load.bind(1)], size)  # error
    flow = Flow()
    text = flow.add(load.bind(1))
    flow.add(load.bind(text.result))  # error
    flow.add(size.bind(text.result), after=7)  # error
    flow.add(size.bind(text.result), on_failure="stop")  # error
    flow.add(size)  # error
    handle = await app.flows.start(chain(load.bind(1), size))
    found: str = await handle.result()  # error
    print(found)
