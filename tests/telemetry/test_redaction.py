"""A planted secret is found nowhere where it is declared sensitive: real worker, real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from opentelemetry.sdk.trace import TracerProvider

from asyncjobs import AsyncJobs, Worker
from asyncjobs.telemetry.metrics import Metrics
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.kit.commands import run_command
from tests.kit.environment import environment
from tests.telemetry.hiding import CVV, OPEN, PROGRAM, SECRET
from tests.telemetry.reading import Reading
from tests.telemetry.recording import Recording

ONCE = ("--burst", "--burst-wait", "5s")
CALLS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "declared": ([SECRET, OPEN], {}),
    "annotated": ([OPEN], {"password": SECRET}),
    "nested": ([OPEN, {"deep": [{"holder": OPEN, "number": SECRET}]}], {}),
    "patterned": ([OPEN, SECRET], {}),
    "in_thread": ([SECRET, OPEN], {}),
    "again": ([SECRET, OPEN], {}),
    "discarded": ([SECRET, OPEN], {}),
    "wrong_result": ([], {"password": SECRET, "user": OPEN}),
}
"""All with the secret; those that are dead at the end come first."""
DEAD = ("declared", "annotated", "nested", "patterned", "in_thread", "again")
FORMS = {SECRET, repr(SECRET)[1:-1], json.dumps(SECRET)[1:-1], quote(SECRET), quote_plus(SECRET)}
CORE = "hunter2-Z"
"""A part of it that no way of writing changes."""


def shows(text: str) -> bool:
    return CORE in text or any(form in text for form in FORMS)


def load(provider: TracerProvider | None = None) -> dict[str, Any]:
    namespace: dict[str, Any] = {"__name__": "tasks", "PROVIDER": provider}
    exec(PROGRAM.replace("AsyncJobs(", "AsyncJobs(tracer_provider=PROVIDER, ", 1), namespace)
    return namespace


@pytest.fixture
def program(folder: Path) -> Path:
    (folder / "tasks.py").write_text(PROGRAM)
    return folder


@pytest.fixture
def send(server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Enqueue the calls, by name, each with its name as its id."""
    monkeypatch.setenv("ASYNCJOBS_URL", server.url)

    def send(calls: dict[str, tuple[list[Any], dict[str, Any]]]) -> None:
        async def enqueue() -> None:
            namespace = load()
            app: AsyncJobs = namespace["app"]
            async with app:
                for name, (args, kwargs) in calls.items():
                    await namespace[name].options(id=name).enqueue(*args, **kwargs)

        asyncio.run(enqueue())

    return send


def command(folder: Path, server: Server, *args: str, code: int = 0) -> str:
    env = environment({"ASYNCJOBS_URL": server.url})
    done = run_command(args, folder, env)
    written = (done.out + done.err).decode()
    assert done.code == code, written
    return written


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_declared_secret_is_in_no_log_line(
    work: Start, program: Path, send: Any, log_format: str
) -> None:
    send(CALLS)
    process = work(*ONCE, "--log-format", log_format, "--log-level", "debug", "--log-args")
    assert process.end() == 0
    for name in DEAD:
        assert f"default/{name}: dead" in process.text
        assert f"default/{name}: started" in process.text
    assert not shows(process.text), [line for line in process.text.splitlines() if shows(line)]
    assert process.text.count("the bank refused") >= 5
    assert OPEN in process.text
    assert "***" in process.text


def test_a_secret_that_is_not_declared_is_found(
    work: Start, program: Path, send: Any, server: Server
) -> None:
    send({"undeclared": ([SECRET, OPEN], {})})
    process = work(*ONCE, "--log-format", "json", "--log-args")
    assert process.end() == 0
    started = next(r for r in process.records() if r["event"].endswith("undeclared: started"))
    assert started["job_args"] == [SECRET, OPEN]
    shown = command(program, server, "dead", "show", "undeclared", "--json")
    assert json.loads(shown)["args"] == [SECRET, OPEN]
    assert SECRET in json.loads(shown)["error"]["message"]


def test_arguments_are_not_logged_unless_asked_for(work: Start, program: Path, send: Any) -> None:
    send({"short": (["1", OPEN], {})})
    process = work(*ONCE, "--log-format", "json", "--log-level", "debug")
    assert process.end() == 0
    assert "default/short: started" in process.text
    assert OPEN not in process.text


def test_what_is_stored_of_errors_has_no_secret(
    work: Start, program: Path, send: Any, server: Server
) -> None:
    send(CALLS)
    assert work(*ONCE).end() == 0
    for name in CALLS:
        outcome = server.command("GET", f"{{asyncjobs:default}}:result:{name}")
        assert outcome is not None, name
        assert not shows(str(outcome)), name
    for name in DEAD:
        letter = server.command("HGET", "{asyncjobs:default}:dead:data", name)
        text = letter.decode() if isinstance(letter, bytes) else str(letter)
        outcome_line, _, envelope = text.partition("\n")
        assert not shows(outcome_line), name
        # The call itself stays as it is: a retry of the dead job needs it.
        fields = json.loads(envelope)
        assert shows(json.dumps([fields.get("a"), fields.get("k")])), name
        assert not shows(json.dumps(fields["h"])), name


def test_commands_show_no_secret(work: Start, program: Path, send: Any, server: Server) -> None:
    send(CALLS)
    for name in CALLS:  # queued, with all of their arguments
        for form in ((), ("--json",)):
            text = command(program, server, "jobs", "show", name, *form)
            assert OPEN in text, name
            assert not shows(text), name
    assert work(*ONCE).end() == 0
    for form in ((), ("--json",)):
        assert not shows(command(program, server, "dead", "list", *form))
        for name in CALLS:
            assert not shows(command(program, server, "jobs", "show", name, *form)), name
        for name in DEAD:
            text = command(program, server, "dead", "show", name, *form)
            assert OPEN in text, name
            assert "***" in text, name
            assert not shows(text), name


def test_commands_that_change_jobs_show_no_secret(
    work: Start, program: Path, send: Any, server: Server
) -> None:
    send(CALLS)
    assert work(*ONCE).end() == 0
    for args in (
        ("stats",),
        ("dead", "retry", "--all", "--dry-run"),
        ("dead", "retry", *DEAD[:3], "--yes", "--json"),
        ("jobs", "show", "declared"),  # ready once more, with the errors of its first life
        ("dead", "purge", "--all", "--yes", "--json"),
    ):
        assert not shows(command(program, server, *args)), args


def test_who_enqueues_and_waits_is_shown_no_secret(
    work: Start, program: Path, server: Server
) -> None:
    work().wait_started()
    given = json.dumps([SECRET, OPEN])
    for name in ("declared", "discarded"):
        wait = ("enqueue", "tasks:app", f"tasks.{name}", "--wait", "--args", given)
        text = command(program, server, *wait, code=1)
        assert "***" in text, name
        assert not shows(text), name
    wrong = ("--kwargs", json.dumps({"password": SECRET, "usr": OPEN}))
    text = command(program, server, "enqueue", "tasks:app", "tasks.declared", *wrong, code=2)
    assert "usr" in text
    assert not shows(text)


def test_a_short_value_hides_whole_words_only(
    work: Start, program: Path, send: Any, server: Server
) -> None:
    send({"short": ([CVV, OPEN], {})})
    assert work(*ONCE).end() == 0
    fields = json.loads(command(program, server, "dead", "show", "short", "--json"))
    assert fields["args"] == ["***", OPEN]
    assert fields["error"]["message"] == f"cvv *** is wrong, ref 1{CVV}1"


@pytest.mark.anyio
async def test_metrics_have_no_secret(
    server: Server, reading: Reading, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCJOBS_URL", server.url)
    namespace = load()
    app: AsyncJobs = namespace["app"]
    Metrics(reading.provider, app.registry.find).attach(app.events)
    async with app:
        for name, (args, kwargs) in CALLS.items():
            await namespace[name].options(id=name).enqueue(*args, **kwargs)
        await Worker(app).run(burst=True)
        info = await namespace["declared"].handle("declared").info()
    measured = "".join(metric.to_json() for metric in reading.metrics().values())
    assert "tasks.declared" in measured
    assert not shows(measured)
    # What a program writes of a job without thinking of it has no arguments at all.
    assert info.args == [SECRET, OPEN]
    assert OPEN not in repr(info)
    assert info.redacted().args == ["***", OPEN]


@pytest.mark.anyio
async def test_spans_have_no_secret(
    server: Server, recording: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASYNCJOBS_URL", server.url)
    namespace = load(recording.provider)
    app: AsyncJobs = namespace["app"]
    async with app:
        for name, (args, kwargs) in CALLS.items():
            await namespace[name].options(id=name).enqueue(*args, **kwargs)
        await Worker(app).run(burst=True)
    traced = "".join(span.to_json() for span in recording.spans())
    assert traced.count("process tasks.declared") == 1
    assert "default/declared" in traced
    assert not shows(traced)
    assert OPEN not in traced
