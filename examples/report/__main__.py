"""Makes a sales report by a flow of jobs, and shows what has run.

    python examples/report

Uses the store of $ASYNCJOBS_URL, and without it one in memory. Exit code 0: the report is there.
1: a job has failed.
"""

from __future__ import annotations

import asyncio
import os
import sys

os.environ.setdefault("ASYNCJOBS_URL", "memory:")

from tasks import SALES, app, count, rank, thank, write

from asyncjobs import Flow, FlowFailed, Worker, chord


def report(title: str) -> Flow:
    """The flow: all shops, then the ranking, then the text and the thanks beside each other."""
    flow = Flow()
    ranking = flow.add(chord([count.bind(shop) for shop in SALES], rank), name="ranking")
    flow.add(write.bind(ranking.result, title), name="text")
    flow.add(thank.bind(ranking.result), name="thanks")
    return flow


async def main() -> int:
    async with app, Worker(app):
        handle = await app.flows.start(report("Best shops"), name="report")
        try:
            result = await handle.result(timeout=30)
        except FlowFailed as error:
            print(error, file=sys.stderr)
            return 1
        print(result["text"])
        for node in await handle.nodes():
            print(f"{node.state:<10} {node.name}")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
