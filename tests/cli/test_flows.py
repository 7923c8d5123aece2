"""`asyncjobs flows`: the commands as users call them, on a store with a flow that has failed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from asyncjobs import AsyncJobs
from asyncjobs.jobs.workflow import chain, group
from asyncjobs.store.flows import FlowState
from asyncjobs.testing.servers import Server
from tests.cli.test_usage import call
from tests.worker.flow_jobs import FlowJobs, broken
from tests.worker.kit import LIMIT_S, working


def flows(server: Server, *args: str) -> Result:
    return call("flows", *args, env={"ASYNCJOBS_URL": server.url})


async def started(server: Server, state: FlowState | None) -> str:
    """Start a flow whose first node fails, and run it until it is in this state; its id."""
    app = AsyncJobs(server.url)
    jobs = FlowJobs(app)
    if state is FlowState.FAILED:
        broken.add(1)
    async with app:
        work = chain(group(jobs.fragile.bind(1), jobs.number.bind(2)), jobs.total, jobs.double)
        handle = await app.flows.start(work, name="sums <&>")
        if state is not None:
            async with working(app):
                assert await handle.wait(LIMIT_S) is state
        return handle.id


@pytest.fixture
def failed(server: Server) -> Iterator[str]:
    try:
        yield asyncio.run(started(server, FlowState.FAILED))
    finally:
        broken.clear()


@pytest.fixture
def fresh(server: Server) -> str:
    """A flow that no worker has looked at."""
    return asyncio.run(started(server, None))


def shown(server: Server, *args: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(flows(server, *args, "--json").stdout)
    return found


def test_there_is_no_flow(server: Server) -> None:
    result = flows(server, "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no flow\n")


def test_flows_are_listed_by_their_states(server: Server, failed: str) -> None:
    text = flows(server, "list").stdout
    assert failed in text
    assert "failed" in text
    (listed,) = shown(server, "list", "--state", "failed")["flows"]
    assert (listed["id"], listed["name"], listed["nodes"]) == (failed, "sums <&>", 4)
    assert listed["states"] == {"dead": 1, "succeeded": 1, "cancelled": 2}
    assert shown(server, "list", "--state", "running") == {"flows": []}


def test_a_flow_is_shown_with_its_nodes(server: Server, failed: str) -> None:
    text = flows(server, "show", failed).stdout
    assert [node in text for node in ("fragile", "number", "total", "double")] == [True] * 4
    found = shown(server, "show", failed)
    assert {node["name"]: node["state"] for node in found["nodes"]} == {
        "fragile": "dead",
        "number": "succeeded",
        "total": "cancelled",
        "double": "cancelled",
    }


def test_a_flow_is_drawn(server: Server, failed: str, tmp_path: Path) -> None:
    drawn = flows(server, "show", failed, "--svg").stdout
    assert drawn.startswith("<svg")
    assert "sums &lt;&amp;&gt;" in drawn
    assert "<&>" not in drawn
    file = tmp_path / "flow.svg"
    assert flows(server, "show", failed, "--svg", str(file)).exit_code == 0
    assert file.read_text() == drawn


def test_why_a_node_waits(server: Server, fresh: str) -> None:
    text = flows(server, "why", fresh, "total").stdout
    assert "fragile" in text
    assert "number" in text
    assert shown(server, "why", fresh, "total")["node"] == "total"
    result = flows(server, "why", fresh, "nobody")
    assert result.exit_code == 1
    assert "nobody" in result.stderr


def test_a_failed_flow_is_tried_again(server: Server, failed: str) -> None:
    broken.clear()
    assert flows(server, "retry", failed).stdout == f"{failed}: runs 3 nodes again\n"
    # It runs, and nobody may start it twice.
    result = flows(server, "retry", failed)
    assert result.exit_code == 1
    assert failed in result.stderr

    async def run() -> FlowState:
        app = AsyncJobs(server.url)
        FlowJobs(app)
        async with app, working(app):
            return await app.flows.get(failed).wait(LIMIT_S)

    assert asyncio.run(run()) is FlowState.SUCCEEDED
    assert flows(server, "retry", failed, "--all", "--from", "total").exit_code == 2


def test_a_flow_is_cancelled_and_dropped(server: Server, fresh: str) -> None:
    assert flows(server, "cancel", fresh).exit_code == 2
    unfinished = flows(server, "drop", fresh, "--yes")
    assert unfinished.exit_code == 1
    assert "cancel it first" in unfinished.stderr
    assert flows(server, "cancel", fresh, "--yes").stdout == f"{fresh}: cancelled\n"
    assert flows(server, "cancel", fresh, "--yes").stdout == f"{fresh}: had ended already\n"
    assert shown(server, "show", fresh)["state"] == "cancelled"
    assert shown(server, "drop", fresh, "--yes") == {"done": {fresh: "dropped"}, "errors": {}}
    assert flows(server, "show", fresh).exit_code == 1


@pytest.mark.parametrize("what", ["show", "retry", "cancel", "drop"])
def test_an_unknown_flow(server: Server, what: str) -> None:
    words = [what, "default/none"]
    if what in ("cancel", "drop"):
        words.append("--yes")
    result = flows(server, *words)
    assert result.exit_code == 1
    assert "default/none" in result.stderr
    assert flows(server, what, "none").exit_code == 2
