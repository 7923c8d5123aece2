"""A worker whose user code breaks logging, listeners and its own exceptions: nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.cli.process import Process
from tests.kit.environment import LIMIT_S

HEAD = """
import asyncio, logging, sys
from asyncjobs import AsyncJobs, Discard, RetryPolicy, Snooze, constant
from asyncjobs import events

app = AsyncJobs(connect_timeout=2)


class NoCause(Exception):
    @property
    def __cause__(self):
        raise RuntimeError("planted: no cause")


class NoText(Exception):
    def __str__(self):
        raise SystemExit("planted: no text")


class Listless(BaseExceptionGroup):
    @property
    def exceptions(self):
        raise RuntimeError("planted: no leaves")


class Pulse(Exception):
    @property
    def __class__(self):
        raise RuntimeError("planted: no class")


ERRORS = {
    "plain": lambda: ValueError("planted"),
    "cause": lambda: NoCause("planted"),
    "text": lambda: NoText(),
    "leaves": lambda: Listless("planted", [ValueError()]),
    "class": lambda: Pulse("planted"),
    "exit": lambda: SystemExit(7),
    "interrupt": lambda: KeyboardInterrupt(),
    "closed": lambda: GeneratorExit(),
    "discard": lambda: Discard("planted"),
}


@app.job(retry=RetryPolicy(2, constant(0)))
async def fail(kind):
    raise ERRORS[kind]()


@app.job(retry=RetryPolicy(2, constant(0)))
def fail_in_thread(kind):
    raise ERRORS[kind]()


@app.job
async def succeed():
    pass
"""

FACTORY = """
def make(*args, _make=logging.getLogRecordFactory(), **kwargs):
    record = _make(*args, **kwargs)
    record.job_id = record.job = record.queue = record.attempt = "-"
    return record

logging.setLogRecordFactory(make)
"""
HANDLER = """
class Broken(logging.Handler):
    def emit(self, record):
        raise {error}("planted")

logging.getLogger().addHandler(Broken())
"""
LISTENER = """
@app.on(events.Event)
def listen(event):
    raise {error}("planted")
"""
TRACES = """
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler


class Broken(SpanProcessor):
    def on_start(self, span, parent_context=None):
        raise {error}("planted")

    def on_end(self, span):
        raise {error}("planted")


provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(Broken())
trace.set_tracer_provider(provider)
"""
SAMPLER = """
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import Sampler


class Broken(Sampler):
    def should_sample(self, *args, **kwargs):
        raise {error}("planted")

    def get_description(self):
        return "broken"


trace.set_tracer_provider(TracerProvider(sampler=Broken(), shutdown_on_exit=False))
"""
KINDS = ("plain", "cause", "text", "leaves", "class", "exit", "interrupt", "closed", "discard")
PLANTED = {
    "nothing": "",
    "factory": FACTORY,
    "handler": HANDLER.format(error="ValueError"),
    "handler exits": HANDLER.format(error="SystemExit"),
    "listener": LISTENER.format(error="ValueError"),
    "listener exits": LISTENER.format(error="SystemExit"),
    "listener interrupts": LISTENER.format(error="KeyboardInterrupt"),
    "listener cancels": LISTENER.format(error="asyncio.CancelledError"),
    "listener closes": LISTENER.format(error="GeneratorExit"),
    "span processor exits": TRACES.format(error="SystemExit"),
    "sampler exits": SAMPLER.format(error="SystemExit"),
    "all of them": FACTORY
    + HANDLER.format(error="KeyboardInterrupt")
    + LISTENER.format(error="SystemExit")
    + TRACES.format(error="SystemExit"),
}


async def send(server: Server, names: list[tuple[str, str]]) -> None:
    """Enqueue without the program's own listeners."""
    namespace: dict[str, Any] = {"__name__": "tasks"}
    exec(HEAD, namespace)
    app: AsyncJobs = namespace["app"]
    async with app:
        for name, kind in names:
            await namespace[name].options(id=f"{name}-{kind}").enqueue(kind)
        await namespace["succeed"].options(id="good").enqueue()


def wait_for_end(server: Server, worker: Process, id: str) -> str:
    """The state that is recorded for the job."""
    end_s = time.monotonic() + LIMIT_S
    while True:
        raw = server.command("GET", f"{{asyncjobs:default}}:result:{id}")
        if isinstance(raw, bytes):
            state: str = json.loads(raw)["s"]
            return state
        assert time.monotonic() < end_s, (id, worker.text)
        worker.wait_briefly()


@pytest.mark.parametrize("planted", PLANTED)
def test_every_end_is_recorded_and_the_worker_stops(
    work: Start, folder: Path, server: Server, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    (folder / "tasks.py").write_text(HEAD + PLANTED[planted])
    monkeypatch.setenv("ASYNCJOBS_URL", server.url)
    names = [(name, kind) for name in ("fail", "fail_in_thread") for kind in KINDS]
    asyncio.run(send(server, names))
    worker = work("--concurrency", "2", "--log-format", "json")
    ends = {id: wait_for_end(server, worker, id) for id in [*map("-".join, names), "good"]}
    worker.send(signal.SIGTERM)
    assert worker.end() == 0
    assert ends.pop("good") == "succeeded"
    assert ends == {id: "discarded" if id.endswith("-discard") else "dead" for id in ends}
    if planted not in ("nothing", "factory"):
        assert "planted" in worker.text
    if "handler" in planted:
        assert worker.text.count("asyncjobs: writing a line to the log 'asyncjobs.worker'") == 1
