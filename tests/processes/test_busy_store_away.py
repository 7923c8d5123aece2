"""A worker that has nothing to ask of its store finds out all the same that it is away."""

from __future__ import annotations

import signal

import pytest

from asyncjobs.testing.servers import start_server
from tests.processes.program import Program


@pytest.mark.parametrize("slots", ["1", "10"])
def test_a_busy_worker_says_that_its_store_is_away(program: Program, slots: str) -> None:
    program.write("")
    with start_server("valkey") as own:
        program.url = own.url
        program.put("nap", 600)
        flags = ("--lease", "2s", "--grace", "50ms", "--hard-limit", "off")
        process = program.work(*flags, "--concurrency", slots)
        program.ledger.wait_for("began", 1)
    process.wait_for("the store is away, running jobs go on")
    process.send(signal.SIGTERM)
    process.end()
