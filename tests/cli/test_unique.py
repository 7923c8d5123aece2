"""`asyncjobs unique list` and `free`, and what other commands say of unique jobs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from click.testing import Result

from asyncjobs.model.clock import new_id
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch, StoreSettings
from asyncjobs.testing.conformance.store import Store
from asyncjobs.testing.servers import Server
from tests.cli.dying import Corpse, bury
from tests.cli.test_usage import call

REPORT = Unique(b"f:reports.send:1a2b", "finished", 3_600_000, replace=True, hold=True)
IMPORT = Unique(b"k:import", "window", 3_600_000)


def unique(server: Server, *args: str) -> Result:
    return call("unique", *args, env={"ASYNCJOBS_URL": server.url})


def put(server: Server, *jobs: tuple[str, Unique], take: bool = False) -> Sequence[Placed | None]:
    """Store these jobs; `take`: a worker takes what is ready, and is gone."""

    async def store() -> Sequence[Placed | None]:
        backend = RedisBackend(server.url, StoreSettings())
        await backend.open()
        try:
            new = [
                NewJob("default", id, 2, b"{}", has_new_id=True, terms=Terms(unique=unique))
                for id, unique in jobs
            ]
            answer = await backend.enqueue(EnqueueBatch(new_id(), new))
            if take:
                worker = await Store(backend, None, None, None).worker("default")  # type: ignore[arg-type]
                await worker.take()
            return answer.places
        finally:
            await backend.close()

    return asyncio.run(store())


def test_no_key_is_held(server: Server) -> None:
    result = unique(server, "list")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "no unique key is held\n")


def test_keys_are_listed_with_their_holders(server: Server) -> None:
    put(server, ("a", REPORT), ("b", IMPORT), take=True)
    put(server, ("c", REPORT))
    result = unique(server, "list")
    assert result.exit_code == 0
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["key", "holder", "until", "held", "next"]
    assert first.split()[:3] == ["f:reports.send:1a2b", "default/a", "finished"]
    assert first.split()[-1] == "default/c"
    assert second.split()[:2] == ["k:import", "default/b"]
    only = unique(server, "list", "--function", "reports.*", "--json")
    (found,) = json.loads(only.stdout)["keys"]
    assert (found["key"], found["function"]) == ("f:reports.send:1a2b", "reports.send")
    assert (found["holder"], found["next"], found["until"]) == (
        "default/a",
        "default/c",
        "finished",
    )
    assert found["since"] < found["free_at"]
    assert json.loads(unique(server, "list", "--queue", "other", "--json").stdout)["keys"] == []
    limited = unique(server, "list", "--limit", "1")
    assert limited.stderr == "1 of 2; --limit shows more\n"


def test_a_key_is_freed(server: Server) -> None:
    put(server, ("a", REPORT))
    result = unique(server, "free", "f:reports.send:1a2b", "--yes")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "freed: 1 key\n", "")
    assert put(server, ("b", REPORT)) == [None]


def test_without_yes_and_a_terminal_nothing_is_freed(server: Server) -> None:
    put(server, ("a", REPORT))
    result = unique(server, "free", "f:reports.send:1a2b")
    assert result.exit_code == 2
    assert "add --yes" in result.stderr
    assert put(server, ("b", REPORT)) == [Placed(JobRef("default", "a"), "replaced")]


def test_a_key_that_nobody_holds(server: Server) -> None:
    result = unique(server, "free", "k:none", "--yes", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"freed": [], "missing": ["k:none"]}
    assert "nobody holds the key 'k:none'" in result.stderr


def test_a_dead_job_whose_key_is_taken_says_by_whom(server: Server) -> None:
    headers = {"unique": ["f:reports.send:1a2b", "finished", 3_600_000]}
    bury(server.url, Corpse("dead", headers=headers))
    put(server, ("holder", REPORT))
    result = call("dead", "retry", "default/dead", env={"ASYNCJOBS_URL": server.url})
    assert result.exit_code == 1
    assert "retried 0" in result.stdout
    assert "default/dead (held by default/holder)" in result.stderr
    as_json = call("dead", "retry", "default/dead", "--json", env={"ASYNCJOBS_URL": server.url})
    assert json.loads(as_json.stdout)["key_taken"] == {"default/dead": "default/holder"}
    unique(server, "free", "f:reports.send:1a2b", "--yes")
    again = call("dead", "retry", "default/dead", env={"ASYNCJOBS_URL": server.url})
    assert (again.exit_code, again.stdout) == (0, "retried 1 dead job\n")
    assert put(server, ("late", REPORT)) == [Placed(JobRef("default", "dead"), "replaced")]


def test_a_held_job_is_shown(server: Server) -> None:
    put(server, ("a", REPORT), take=True)
    assert put(server, ("b", REPORT)) == [Placed(JobRef("default", "b"), "held")]
    env = {"ASYNCJOBS_URL": server.url}
    assert "held, waits for job default/a" in call("jobs", "show", "default/b", env=env).stdout
    shown = json.loads(call("jobs", "show", "default/b", "--json", env=env).stdout)
    assert (shown["state"], shown["held_by"]) == ("held", "job default/a")
