"""`asyncjobs jobs list` of jobs that are held or have ended, and what may be done about them."""

from __future__ import annotations

from itertools import pairwise

from asyncjobs.model.demand import Demand
from asyncjobs.model.envelope import encode_call
from asyncjobs.model.job import NewJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.model.terms import Terms, Unique
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import EnqueueBatch
from asyncjobs.testing.servers import Server
from tests.cli.dying import on_store
from tests.cli.test_jobs_list import found, jobs, listed, rows
from tests.cli.test_usage import call

RAW = encode_call("tasks.sync", [], {}, 1, None, None, None, {})


def hold(server: Server) -> None:
    """Let the job `first` run, and `second` wait for its key."""
    terms = Terms(unique=Unique(b"key", "finished", 60_000, replace=True, hold=True))

    async def store_them(store: RedisBackend) -> None:
        await store.enqueue(EnqueueBatch("one", [NewJob("default", "first", 2, RAW, terms=terms)]))
        lease = await store.lease(LeaseSpec("lease", "ada", ("default",), 60_000))
        await lease.exchange(1, [], {"default": Demand(1)})
        await store.enqueue(EnqueueBatch("two", [NewJob("default", "second", 1, RAW, terms=terms)]))

    on_store(server.url, store_them)


def end(server: Server) -> None:
    """Let a job succeed, and one be discarded; cancel another one that waits."""

    async def end_them(store: RedisBackend) -> None:
        new = [NewJob("default", name, 2, RAW) for name in ("done", "late", "gone")]
        await store.enqueue(EnqueueBatch("three", new))
        lease = await store.lease(LeaseSpec("lease", "ada", ("default",), 60_000))
        done, late = (await lease.exchange(1, [], {"default": Demand(2)})).jobs
        run = ("tasks.sync", 3, done.ready_ms - 5, done.ready_ms + 40, 7.0, 7.25)
        ends = [
            Settlement.succeeded(done, run=run),
            Settlement.discarded(late).telling((*run, "OSError: \x1b[31mno host\nat all")),
        ]
        await lease.exchange(2, ends, {})
        await store.cancel([new[2].ref], None, 0)

    on_store(server.url, end_them)


def test_held_jobs(server: Server) -> None:
    hold(server)
    result = jobs(server, "list", "held")
    assert (result.exit_code, result.stderr) == (0, "1 held job\n")
    head, row = rows(result)
    assert head == ["job", "function", "priority", "held by", "held since"]
    assert row[:4] == ["default/second", "tasks.sync", "high", "default/first"]
    assert row[4].endswith("+00:00")
    (job,) = found(server, "held")["jobs"]
    assert (job["state"], job["held_by"]) == ("held", "job default/first")
    assert listed(server, "held", "--since", "1h", "--function", "tasks.*") == ["default/second"]
    assert listed(server, "held", "--before", "1h") == []


def test_held_jobs_have_a_column_of_the_queues(server: Server) -> None:
    hold(server)
    url = {"ASYNCJOBS_URL": server.url}
    for command in ["stats"], ["queues", "list"]:
        lines = [line.split("\t") for line in call(*command, env=url).stdout.splitlines()]
        head, row = next(pair for pair in pairwise(lines) if pair[0][0] == "queue")
        found = dict(zip(head, row, strict=True))
        assert (found["running"], found["scheduled"], found["held"]) == ("1", "0", "1")


def test_held_jobs_are_cancelled_by_filters(server: Server) -> None:
    hold(server)
    result = jobs(server, "run-now", "--state", "held", "--all-matching", "--yes")
    assert result.exit_code == 2
    assert "--state held: this command is for scheduled jobs" in result.stderr
    result = jobs(server, "cancel", "--state", "held", "--function", "tasks.*", "--yes")
    assert (result.exit_code, result.stdout) == (0, "cancelled 1 job\n")
    assert listed(server, "held") == []
    assert listed(server, "cancelled") == ["default/second"]


def test_held_jobs_are_deleted_by_filters(server: Server) -> None:
    hold(server)
    result = jobs(server, "delete", "--state", "held", "--all-matching", "--yes")
    assert (result.exit_code, result.stdout) == (0, "deleted 1 job\n")
    assert listed(server, "held") == listed(server, "cancelled") == []


def test_jobs_that_have_ended(server: Server) -> None:
    end(server)
    result = jobs(server, "list", "succeeded")
    assert (result.exit_code, result.stderr) == (0, "1 succeeded job\n")
    head, row = rows(result)
    assert head == ["job", "function", "worker", "attempt", "ended", "ran", "error"]
    assert row[:4] == ["default/done", "tasks.sync", "ada", "3"]
    assert row[5:] == ["250ms", ""]
    (job,) = found(server, "succeeded")["jobs"]
    assert (job["attempt"], job["ran_s"], job["worker"]) == (3, 0.25, "ada")
    (cells,) = rows(jobs(server, "list", "discarded", "--error", "oserr"))[1:]
    assert "\x1b" not in cells[6]
    assert cells[6].startswith("OSError: ")
    assert listed(server, "discarded", "--message", "no route") == []
    assert listed(server, "cancelled", "--since", "1h") == ["default/gone"]


def test_nothing_is_done_about_jobs_that_have_ended(server: Server) -> None:
    result = jobs(server, "delete", "--state", "succeeded", "--all-matching", "--yes")
    assert result.exit_code == 2
    assert "'succeeded' is not one of" in result.stderr
