"""`app.workers`: who works, and orders to workers. The command line does the same by it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from asyncjobs.client.queues import check_control
from asyncjobs.errors import UsageError
from asyncjobs.guard.nearness import nearest
from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.control import WorkerState
from asyncjobs.options.checks import check_queue_name
from asyncjobs.store.apart import apart
from asyncjobs.store.control import OrderKind
from asyncjobs.store.inspect import WorkerEntry
from asyncjobs.store.lease import ENTRY_MARK
from asyncjobs.store.seam import Backend

__all__ = ["WorkerInfo", "Workers"]

SHORTEST_PREFIX: Final = 6
"""Characters of a lease's id that may stand for all of it. The first ones are the time at which it
was made, so fewer of them would fit many workers."""
MOST_TEXT: Final = 200
MOST_WEIGHT: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as the store knows it.

    name: its label; several workers may have the same one.
    lease: its id, which no other worker has.
    queues: the queues that it serves, with their weights.
    running: how many jobs it holds.
    ordered: a state that was ordered, and that it has not told of yet; None without one.
    since: when it started, by its own clock. ends: when its lease ends, unless it is renewed.
    """

    name: str
    lease: str
    host: str | None
    pid: int | None
    version: str | None
    queues: Mapping[str, int]
    concurrency: int | None
    running: int
    state: WorkerState
    ordered: WorkerState | None
    since: datetime | None
    ends: datetime
    entries: Sequence[tuple[str, str]]
    """Under which name it stands in each queue: (queue, lease)."""


class Workers:
    """What an operator asks of workers and orders them to do.

    A worker is named by its name, by the id of its lease, or by the first characters of that id (at
    least 6). A name that fits no worker or several ones is an error, and then nobody is ordered.
    An order reaches a worker within milliseconds. If that signal is lost, its next heartbeat
    brings the order.
    """

    def __init__(self, opened: Callable[[], Backend]) -> None:
        self._opened = opened

    async def list(self) -> Sequence[WorkerInfo]:
        """All live workers, by name. Those of queues that cannot be read are left out."""
        backend = check_control(self._opened(), "workers.list")

        async def ask(queues: Sequence[str]) -> list[list[WorkerEntry]]:
            found: dict[str, list[WorkerEntry]] = {queue: [] for queue in queues}
            for entry in await backend.inspect.workers(queues):
                found[entry.queue].append(entry)
            return [*found.values()]

        answers = (await apart(ask, await backend.inspect.queues.names())).answers
        by_lease: dict[str, list[WorkerEntry]] = {}
        for entries in answers.values():
            for entry in entries:
                # One whose lease is over is dead, or will enter its queues again.
                if entry.end_ms > entry.now_ms:
                    lease = entry.lease.partition(ENTRY_MARK)[0]
                    by_lease.setdefault(lease, []).append(entry)
        found = [_worker(lease, entries) for lease, entries in by_lease.items()]
        return sorted(found, key=lambda worker: (worker.name, worker.lease))

    async def quiet(self, *names: str) -> Sequence[WorkerInfo]:
        """Take no more jobs, finish those that run, and stay until `resume` or `stop`.

        Returns the workers as they were before. Raises UsageError for a name that is unknown or
        fits several workers.
        """
        return await self._order(names, OrderKind.STATE, WorkerState.QUIET)

    async def resume(self, *names: str) -> Sequence[WorkerInfo]:
        """Let quiet workers take jobs again. Raises like `quiet`."""
        return await self._order(names, OrderKind.STATE, WorkerState.RUNNING)

    async def stop(self, *names: str) -> Sequence[WorkerInfo]:
        """End as by SIGTERM: take no more jobs, and finish those that run within the grace.

        A process of `--processes` is replaced by its parent, as one that has ended by itself.
        Raises like `quiet`.
        """
        return await self._order(names, OrderKind.STATE, WorkerState.STOPPING)

    async def weights(self, name: str, weights: Mapping[str, int]) -> WorkerInfo:
        """Share the slots of one worker by other weights, until it ends.

        Queues that are not named keep theirs. Raises UsageError like `quiet`, for a queue that the
        worker does not serve, and for a weight that is no whole number from 1 to 1,000,000.
        """
        (worker,) = await self.find(name)
        # Checked here: the worker itself leaves out what it cannot follow, and tells nobody.
        for queue, weight in weights.items():
            check_queue_name(queue, field="weights")
            if queue not in worker.queues:
                raise UsageError(
                    f"worker {name!r} does not serve the queue {queue!r}; it serves "
                    f"{', '.join(sorted(worker.queues))}"
                )
            if type(weight) is not int or not 1 <= weight <= MOST_WEIGHT:
                raise UsageError(
                    f"the weight of queue {queue!r} must be a whole number from 1 to "
                    f"{MOST_WEIGHT:,}, not {weight!r}"
                )
        value = to_json(dict(weights)).decode()
        await self._give([worker], OrderKind.WEIGHTS, value)
        return worker

    async def find(self, *names: str) -> Sequence[WorkerInfo]:
        """The workers with these names, each once. Raises UsageError like `quiet`."""
        known = await self.list()
        found: dict[str, WorkerInfo] = {}
        for name in names:
            worker = _choose(name, known)
            found[worker.lease] = worker
        return [*found.values()]

    async def _order(
        self, names: Sequence[str], kind: OrderKind, value: WorkerState
    ) -> Sequence[WorkerInfo]:
        # All names are looked up before the first order: a typo in the last one orders nobody.
        workers = await self.find(*names)
        await self._give(workers, kind, value)
        return workers

    async def _give(self, workers: Sequence[WorkerInfo], kind: OrderKind, value: str) -> None:
        # In each of its queues: one of them may be away, or forget the order with its lease.
        entries = [entry for worker in workers for entry in worker.entries]
        await self._opened().control.workers.order(entries, kind, value)


def _choose(name: str, known: Sequence[WorkerInfo]) -> WorkerInfo:
    found = [worker for worker in known if name in (worker.name, worker.lease)]
    # A whole name comes first: it may look like the beginning of a lease.
    if not found and len(name) >= SHORTEST_PREFIX:
        found = [worker for worker in known if worker.lease.startswith(name)]
    if len(found) == 1:
        return found[0]
    if found:
        leases = ", ".join(worker.lease for worker in found[:5])
        raise UsageError(
            f"{name!r} stands for {len(found)} workers: give the lease of one, or its first "
            f"characters: {leases}"
        )
    advice = ""
    if near := nearest(name, [worker.name for worker in known]):
        advice = f"; did you mean {near!r}?"
    raise UsageError(f"no live worker {name!r}{advice}")


def _worker(lease: str, entries: Sequence[WorkerEntry]) -> WorkerInfo:
    last = max(entries, key=lambda entry: entry.end_ms)
    try:
        about = read_fields(last.info)
    except BadRecord:
        # One worker of a later release, or a foreign entry, must not hide all others.
        about = {}
    state = _state(about.get("state")) or WorkerState.RUNNING
    # An order of an older state than the one it tells of was followed by a later one.
    ordered = _state(last.ordered)
    # What it says of itself is older: a worker that ends says nothing new.
    if any(entry.leaves for entry in entries):
        state = WorkerState.STOPPING
    return WorkerInfo(
        name=_text(about.get("worker")) or "?",
        lease=lease,
        host=_text(about.get("host")),
        pid=_number(about.get("pid")),
        version=_text(about.get("version")),
        queues=_weights(about.get("queues"), entries),
        concurrency=_number(about.get("concurrency")),
        running=sum(entry.running for entry in entries),
        state=state,
        ordered=ordered if ordered is not state else None,
        since=_since(lease),
        ends=datetime.fromtimestamp(min(last.end_ms, LAST_MS) / 1000, UTC),
        entries=tuple((entry.queue, entry.lease) for entry in entries),
    )


def _state(value: Any) -> WorkerState | None:
    try:
        return WorkerState(value)
    except ValueError:
        return None


def _text(value: Any) -> str | None:
    # Anybody who can write to the store may have written it.
    return value[:MOST_TEXT] if isinstance(value, str) and value else None


def _number(value: Any) -> int | None:
    return value if type(value) is int else None


def _weights(value: Any, entries: Sequence[WorkerEntry]) -> dict[str, int]:
    """The queues in which it stands; what it says of others does not count."""
    said = value if isinstance(value, dict) else {}
    return {entry.queue: _number(said.get(entry.queue)) or 1 for entry in entries}


def _since(lease: str) -> datetime | None:
    """When the worker began. The id of its lease starts with that."""
    try:
        return datetime.fromtimestamp(int(lease[:12], 16) / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
