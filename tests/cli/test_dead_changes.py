"""`asyncjobs dead retry` and `dead purge`."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from asyncjobs.cli.dead import changes
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.letters import DeadLetter, LetterKey
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.redis.letters import RedisDeadLetters
from asyncjobs.testing.servers import Server
from tests.cli.conftest import Start
from tests.cli.dying import Corpse, bury, enqueue, left, record
from tests.cli.operator import operate
from tests.cli.test_usage import call
from tests.kit.environment import LIMIT_S, environment

BOTH = pytest.mark.parametrize("verb", ["retry", "purge"])
PAST = {"retry": "retried", "purge": "purged"}


def dead(server: Server, *args: str) -> Result:
    return call("dead", *args, env={"ASYNCJOBS_URL": server.url})


def state(server: Server, ref: str) -> State:
    found = record(server.url, ref)
    assert found is not None
    return found.state


def test_a_retried_job_starts_anew(server: Server) -> None:
    headers = {"spent": {"": 3}, "crashes": 2, "mine": 1}
    bury(server.url, Corpse("a", args=[7], headers=headers, priority=1), Corpse("b"))
    result = dead(server, "retry", "default/a")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "retried 1 dead job\n", "")
    found = record(server.url, "default/a")
    assert found is not None
    assert (found.state, found.priority, found.outcome) == (State.READY, 1, None)
    assert found.envelope is not None
    envelope = Envelope.decode(found.envelope)
    assert (envelope.name, envelope.args, envelope.attempt) == ("tasks.fail", [7], 1)
    assert set(envelope.headers.fields) == {"mine", "errors", "revived", "revived_at"}
    (error,) = envelope.headers.errors()
    assert (error.type, error.message, error.attempt) == ("ValueError", "planted fault", 3)
    assert envelope.headers.revivals()[0] == 1
    assert left(server.url) == ["b"]


def test_a_retry_at_another_priority(server: Server) -> None:
    bury(server.url, Corpse("a", priority=3))
    assert dead(server, "retry", "a", "--priority", "critical").exit_code == 0
    found = record(server.url, "default/a")
    assert found is not None
    assert found.priority == 0


def test_a_purged_job_is_gone(server: Server) -> None:
    bury(server.url, Corpse("a"), Corpse("b"))
    result = dead(server, "purge", "a")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "purged 1 dead job\n", "")
    assert left(server.url) == ["b"]
    assert state(server, "default/a") is State.DEAD
    assert dead(server, "purge", "a").exit_code == 1


@BOTH
def test_several_ids_of_which_one_is_not_dead(server: Server, verb: str) -> None:
    bury(server.url, Corpse("a"), Corpse("b", queue="mail"), Corpse("c"))
    result = dead(server, verb, "a", "nobody", "mail/b", "default/a", "--yes")
    assert (result.exit_code, result.stdout) == (1, f"{PAST[verb]} 2 dead jobs\n")
    assert "Error: no dead job 'nobody' in queue" in result.stderr
    assert (left(server.url), left(server.url, "mail")) == (["c"], [])
    alone = dead(server, verb, "nobody", "--json")
    assert (alone.exit_code, json.loads(alone.stdout)["found"]) == (1, 0)


@BOTH
def test_by_filters(server: Server, verb: str) -> None:
    bury(
        server.url,
        Corpse("old", age_s=7200),
        Corpse("a", error="TimeoutError"),
        Corpse("b", error="TimeoutError", queue="mail"),
        Corpse("c", error="TimeoutError", function="tasks.nap"),
        Corpse("d"),
    )
    filters = ("--error", "timeout", "--function", "tasks.fail")
    result = dead(server, verb, *filters, "--yes")
    assert (result.exit_code, result.stdout) == (0, f"{PAST[verb]} 2 dead jobs\n")
    assert (left(server.url), left(server.url, "mail")) == (["old", "c", "d"], [])
    again = dead(server, verb, *filters, "--yes")
    assert (again.exit_code, again.stdout) == (0, f"no dead job to {verb}\n")
    assert dead(server, verb, "--before", "1h").stdout == f"{PAST[verb]} 1 dead job\n"
    assert dead(server, verb, "--all", "--yes").stdout == f"{PAST[verb]} 2 dead jobs\n"
    assert left(server.url) == []


@BOTH
def test_many_in_pages(server: Server, verb: str) -> None:
    bury(server.url, *(Corpse(f"job-{n:04}", error="EvenError" * (n % 2)) for n in range(2300)))
    result = dead(server, verb, "--error", "even", "--yes", "--json")
    told = json.loads(result.stdout)
    assert (told["found"], told[PAST[verb]], told["gone"]) == (1150, 1150, 0)
    assert (
        dead(server, "list", "--limit", "1").stderr == "1 of 1,150 dead jobs; more with --limit\n"
    )


def test_large_letters_take_several_trips(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    find, sizes = RedisDeadLetters.find, []

    async def measured(self: RedisDeadLetters, *args: Any, **read: Any) -> list[DeadLetter | None]:
        found = await find(self, *args, **read)
        sizes.append(sum(letter.size for letter in found if letter is not None))
        return found

    bury(server.url, *(Corpse(f"job-{n}", args=["x" * 900_000]) for n in range(10)))
    monkeypatch.setattr(RedisDeadLetters, "find", measured)
    assert dead(server, "retry", "--all", "--yes").stdout == "retried 10 dead jobs\n"
    assert len(sizes) > 1
    assert max(sizes) <= 4 * 1024 * 1024


@BOTH
def test_dry_run(server: Server, verb: str) -> None:
    bury(server.url, Corpse("a"), Corpse("b"))
    result = dead(server, verb, "--all", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, f"would {verb} 2 dead jobs\n")
    one = dead(server, verb, "a", "--dry-run", "--json")
    told = json.loads(one.stdout)
    assert (told["found"], told["dry_run"], told[PAST[verb]]) == (1, True, 0)
    assert left(server.url) == ["a", "b"]


@BOTH
def test_nobody_there_to_be_asked(server: Server, verb: str) -> None:
    bury(server.url, Corpse("a"), Corpse("b"))
    for args in (["--all"], ["a", "b"]):
        result = dead(server, verb, *args)
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"this would {verb} 2 dead jobs, and there is no terminal" in result.stderr
        assert "add --yes" in result.stderr
    assert left(server.url) == ["a", "b"]


class Asked:
    """A command with a terminal as its stdin, until it asks."""

    def __init__(self, folder: Path, server: Server, *args: str, group: str = "dead") -> None:
        self.terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "asyncjobs", group, *args],
            cwd=folder,
            env=environment({"ASYNCJOBS_URL": server.url}),
            stdin=end,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        os.close(end)
        assert self.process.stderr is not None
        self.question = b""
        while not self.question.endswith(b": "):
            piece = self.process.stderr.read1(1000)  # type: ignore[attr-defined]  # a buffered reader
            assert piece, self.question
            self.question += piece

    def end(self, answer: bytes) -> tuple[int, str, str]:
        """Answer; returns the exit code and what was printed since the question."""
        os.write(self.terminal, answer)
        return self._ended(LIMIT_S)

    def interrupt(self) -> tuple[int, str, str]:
        """Ctrl-C; again when it came between the question and the wait for an answer."""
        for _ in range(round(LIMIT_S)):
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return self._ended(1)
        self.process.kill()
        return self._ended(LIMIT_S)

    def _ended(self, limit_s: float) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=limit_s)
        os.close(self.terminal)
        return self.process.returncode, out.decode(), err.decode()


def test_it_asks_before_it_touches_more_than_one(folder: Path, server: Server) -> None:
    bury(server.url, Corpse("a"), Corpse("b"))
    no = Asked(folder, server, "purge", "--all")
    assert no.question == b"Purge 2 dead jobs? [y/N]: "
    assert no.end(b"n\n") == (1, "", "nothing was purged\n")
    assert left(server.url) == ["a", "b"]
    yes = Asked(folder, server, "retry", "a", "b")
    assert yes.question == b"Retry 2 dead jobs? [y/N]: "
    assert yes.end(b"y\n") == (0, "retried 2 dead jobs\n", "")
    assert left(server.url) == []


def test_ctrl_c_at_the_question_ends_it(folder: Path, server: Server) -> None:
    bury(server.url, Corpse("a"), Corpse("b"))
    asked = Asked(folder, server, "purge", "--all")
    code, out, err = asked.interrupt()
    assert (code, out) == (1, "")
    assert err.strip() == "Aborted!"
    assert left(server.url) == ["a", "b"]


@BOTH
def test_what_others_did_meanwhile_is_not_counted(
    server: Server, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    bury(server.url, *(Corpse(name) for name in "abcd"))
    work = changes._work

    async def late(store: RedisBackend, *args: Any) -> None:
        """Between the search and the work, two letters go."""
        letters = await store.dead.find([JobRef("default", "a"), JobRef("default", "b")])
        await store.dead.purge([letter.key for letter in letters if letter is not None])
        await work(store, *args)

    monkeypatch.setattr(changes, "_work", late)
    result = dead(server, verb, "--all", "--yes", "--json")
    assert result.exit_code == 0
    told = json.loads(result.stdout)
    assert (told["found"], told[PAST[verb]], told["gone"]) == (4, 2, 2)
    assert "2 dead jobs disappeared meanwhile" in result.stderr
    assert left(server.url) == []


def test_a_living_job_keeps_its_id(server: Server) -> None:
    bury(server.url, Corpse("a", age_s=7200), Corpse("b"))
    enqueue(server.url, Corpse("a", function="tasks.other"))
    result = dead(server, "retry", "--all", "--yes")
    assert (result.exit_code, result.stdout) == (1, "retried 1 dead job\n")
    assert "1 job not retried: a living job has the id" in result.stderr
    assert "default/a" in result.stderr
    told = json.loads(dead(server, "retry", "a", "--json").stdout)
    assert (told["retried"], told["id_taken"]) == (0, ["default/a"])
    assert left(server.url) == ["a"]
    assert dead(server, "purge", "a").exit_code == 0
    assert state(server, "default/a") is State.READY


def test_what_is_no_letter_is_not_retried_but_purged(server: Server) -> None:
    bury(server.url, Corpse("a", letter=b"nonsense"), Corpse("b"))
    result = dead(server, "retry", "--all", "--yes", "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["retried"], told["unreadable"]) == (1, 1, ["default/a"])
    assert "1 job not retried: what is stored is not a dead letter" in result.stderr
    assert dead(server, "purge", "a").exit_code == 0
    assert left(server.url) == []


def test_a_store_that_goes_away_meanwhile(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bury(server.url, *(Corpse(f"job-{n:04}") for n in range(1200)))
    purge, calls = RedisDeadLetters.purge, []

    async def cut_off(self: RedisDeadLetters, letters: Sequence[LetterKey]) -> list[bool]:
        calls.append(len(letters))
        if len(calls) == 3:
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        return await purge(self, letters)

    monkeypatch.setattr(RedisDeadLetters, "purge", cut_off)
    result = dead(server, "purge", "--all", "--yes")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "stopped: purged 1,000 of 1,200 dead jobs; run the same command again" in result.stderr
    assert calls == [500, 500, 200]
    monkeypatch.undo()
    assert dead(server, "purge", "--all", "--yes").stdout == "purged 200 dead jobs\n"


LATER = """
from pathlib import Path
from asyncjobs import AsyncJobs

app = AsyncJobs()


@app.job(retry=False, name="order")
async def order(number: int) -> int:
    if not Path("mended").exists():
        raise ConnectionError("the shop is closed")
    return number
"""
RESULT = """
import asyncio
from later import app, order

async def main():
    async with app:
        print(await order.handle("one").result(timeout=20))

asyncio.run(main())
"""


@pytest.mark.parametrize("store", ["server", "embedded"])
def test_a_job_that_dies_is_retried_and_succeeds(
    folder: Path, run: Start, request: pytest.FixtureRequest, store: str
) -> None:
    env = {"ASYNCJOBS_URL": "embedded:"}
    if store == "server":
        env = {"ASYNCJOBS_URL": request.getfixturevalue("server").url}
    (folder / "later.py").write_text(LATER)
    done = operate(folder, "enqueue", "later:app", "order", "--args", "[7]", "--id", "one", env=env)
    assert done.code == 0, done.err
    burst = ("worker", "later:app", "--burst", "--burst-wait", "0s")
    assert run(*burst, env=env).end() == 0
    (job,) = operate(folder, "dead", "list", "--json", env=env).json()["jobs"]
    assert (job["job"], job["error"]["message"]) == ("default/one", "the shop is closed")
    again = operate(
        folder, "enqueue", "later:app", "order", "--args", "[8]", "--id", "one", env=env
    )
    retried = operate(folder, "dead", "retry", "default/one", env=env)
    assert (retried.code, retried.out) == (0, "retried 1 dead job\n")
    assert again.code == 0
    (folder / "mended").touch()
    assert run(*burst, env=env).end() == 0
    fields = operate(folder, "jobs", "show", "default/one", "--json", env=env).json()
    assert (fields["state"], fields["attempt"]) == ("succeeded", 1)
    (folder / "result.py").write_text(RESULT)
    told = subprocess.run(
        [sys.executable, "result.py"],
        cwd=folder,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (told.stdout, told.stderr) == ("7\n", "")
    nothing = operate(folder, "dead", "list", env=env)
    assert (nothing.out, nothing.err) == ("", "no dead job\n")


@BOTH
@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "which dead jobs? Give IDs, filters (--queue, --function,"),
        (["a", "--all"], "give IDs, or filters, or --all"),
        (["a", "--reason", "crashed"], "give IDs, or filters, or --all"),
        (["--all", "--queue", "mail"], "--all means every dead job"),
        (["a b"], "ID='a b' is not a job id"),
        (["--queue", "{}"], "--queue='{}' is not a queue name"),
        (["--message", ""], "--message is empty"),
        (["--since", "1h", "--before", "1h"], "--since has to be the longer one"),
    ],
)
def test_usage_of_changes(verb: str, args: list[str], expected: str) -> None:
    result = call("dead", verb, *args)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.split())
