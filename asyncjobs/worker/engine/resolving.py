"""Puts the results of nodes of a flow into the arguments of the jobs that wait for them.

Jobs without references never come here. Those that were taken together are served by one question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from asyncjobs.errors import ResultMissing, StoreUnavailable
from asyncjobs.guard.own import hide
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.clock import now_ms as wall_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.flow_mark import (
    MOST_REFERRED,
    FlowMark,
    Leaf,
    Reference,
    filled,
    flow_mark,
    leaves_of,
    read_references,
    ref_of,
    without_references,
)
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement
from asyncjobs.store.seam import Backend
from asyncjobs.worker.engine.attempt import NEW, WAITING, Attempt, Body, start_task
from asyncjobs.worker.engine.running import Running

__all__ = ["Dependent", "Dependents", "dependent"]

STEP: Final = 500
"""Results that are asked for in one call."""
MOST_BYTES: Final = 64 << 20
"""The most bytes of results that one job may need."""
PAUSE_FIRST_S: Final = 0.05
PAUSE_MOST_S: Final = 3.0


class Dependent(NamedTuple):
    """An attempt that cannot begin before results are put into its arguments."""

    attempt: Attempt
    store: Backend
    mark: FlowMark
    references: list[Reference]

    @property
    def refs(self) -> dict[JobRef, Leaf]:
        """The jobs whose results it needs."""
        found: dict[JobRef, Leaf] = {}
        for reference in self.references:
            for leaf in leaves_of(reference.value):
                found[ref_of(self.mark.id, leaf)] = leaf
                if len(found) > MOST_REFERRED:
                    raise ResultMissing(
                        f"{self.attempt.function.name}: it needs more than {MOST_REFERRED:,} "
                        "results; let jobs before it put them together"
                    )
        return found


class _Waiting(NamedTuple):
    needs: Dependent
    refs: dict[JobRef, Leaf]
    done: asyncio.Future[None]


def dependent(attempt: Attempt, store: Backend | None) -> Dependent:
    """Raises BadRecord for references that nobody can follow."""
    mark = flow_mark(attempt.envelope.headers)
    # The ids of the other jobs follow from that of the flow.
    if mark is None or store is None:
        raise BadRecord("it needs results of a flow, and belongs to none")
    return Dependent(attempt, store, mark, read_references(attempt.envelope.headers))


class Starter(Protocol):
    """The runner, as this needs it."""

    clock_ahead_ms: int

    def body_of(self, function: JobFunction[..., Any]) -> Callable[[Attempt], Body]: ...

    def end(self, attempt: Attempt, error: BaseException) -> None:
        """End an attempt that has not come to its function."""
        ...


class Dependents:
    """Starts attempts that wait for results, and gets these. They hold their slots meanwhile.

    Owns the task that asks, while anybody waits. `settle`: called with the settlement of a job that
    cannot run.
    """

    def __init__(
        self, runner: Starter, running: Running, settle: Callable[[Settlement | None], None]
    ) -> None:
        self._runner = runner
        self._settle = settle
        self._running = running
        self._loop = asyncio.get_running_loop()
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None

    def start(self, needs: Dependent | Settlement, now_s: float) -> None:
        """Start an attempt, or settle a job that cannot run. `now_s`: by the loop's clock."""
        if not isinstance(needs, Dependent):
            self._settle(needs)
            return
        attempt = needs.attempt
        # It has its slot from now on, so that a resync names it, and a cancel finds it.
        attempt.started_s = now_s
        self._running.add(attempt)
        task = start_task(self._loop, self._begin(needs), attempt.function.name)
        if attempt.phase == NEW or (not task.done() and attempt in self._running):
            attempt.task = task
        # Another job may cancel it before its first step.
        if attempt.phase == NEW:
            attempt.when_cut_off(self._runner.end)

    async def _begin(self, needs: Dependent) -> None:
        attempt = needs.attempt
        function = attempt.function
        attempt.phase = WAITING
        try:
            if attempt.stopping is not None:
                raise asyncio.CancelledError
            await self._fill(needs)
            # Its time-out begins after this wait, as after that for a place.
            if function.starts_at_once:
                attempt.begin(wall_ms() + self._runner.clock_ahead_ms, self._loop)
            await self._runner.body_of(function)(attempt)
        except BaseException as error:
            # The body raises nothing, so this was raised before it.
            self._runner.end(attempt, error)

    async def _fill(self, needs: Dependent) -> None:
        """Return when the arguments of this attempt have their values.

        Raises ResultMissing for a result that is not there any more. While the store is away it
        waits, as long as the attempt goes on.
        """
        waiting = _Waiting(needs, needs.refs, self._loop.create_future())
        self._waiting.append(waiting)
        if self._task is None:
            self._task = hide(self._loop.create_task(self._ask(), name="asyncjobs results"))
        await waiting.done

    async def close(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _ask(self) -> None:
        pauses = Pauses(PAUSE_FIRST_S, PAUSE_MOST_S)
        try:
            # One turn, in which all that were taken together come here.
            await asyncio.sleep(0)
            while self._waiting:
                # Who was cancelled meanwhile needs nothing any more.
                self._waiting = [each for each in self._waiting if not each.done.done()]
                together = list(self._waiting)
                if not together:
                    break
                try:
                    found = await _get(together)
                except StoreUnavailable:
                    await asyncio.sleep(pauses.next_s())
                    continue
                pauses.reset()
                # Others may have come while the store was asked, and are served next.
                del self._waiting[: len(together)]
                for each in together:
                    _answer(each, found)
        except asyncio.CancelledError:
            raise
        # Whoever waits must hear of it: without an answer the job would keep its slot for ever.
        except BaseException as error:
            for each in self._waiting:
                if not each.done.done():
                    each.done.set_exception(error)
            self._waiting.clear()
        finally:
            self._task = None


async def _get(together: Sequence[_Waiting]) -> dict[JobRef, JobRecord | None]:
    """All results that these need, each asked for once."""
    found: dict[JobRef, JobRecord | None] = {}
    once = list(dict.fromkeys(ref for each in together for ref in each.refs))
    store = together[0].needs.store
    # In steps: the answer to one call is in memory as a whole.
    for first in range(0, len(once), STEP):
        part = once[first : first + STEP]
        found |= zip(part, await store.get(part), strict=True)
    return found


def _answer(waiting: _Waiting, found: dict[JobRef, JobRecord | None]) -> None:
    """Put the results into the arguments of one attempt, or raise there why it cannot run."""
    if waiting.done.done():
        return
    try:
        _put(waiting.needs, waiting.refs, found)
    except Exception as error:
        waiting.done.set_exception(error)
    else:
        waiting.done.set_result(None)


def _put(needs: Dependent, refs: dict[JobRef, Leaf], found: dict[JobRef, JobRecord | None]) -> None:
    attempt = needs.attempt
    name = attempt.function.name
    size = 0
    values: dict[JobRef, Any] = {}
    for ref, leaf in refs.items():
        record = found[ref]
        if record is not None and record.outcome is not None:
            size += len(record.outcome)
        # rule:40 a job never gets more results than a worker can bear
        if size > MOST_BYTES:
            raise ResultMissing(
                f"{name}: the results that it needs take over {MOST_BYTES >> 20} MiB; let nodes "
                "store large data elsewhere, and return its key"
            )
        values[ref] = _value(name, ref, leaf, record)
    # Decoded anew, so that nobody else sees an envelope that is half full.
    envelope = Envelope.decode(attempt.job.envelope)
    flow = needs.mark.id
    for reference in needs.references:
        value = filled(reference.value, lambda leaf: values[ref_of(flow, leaf)])
        _set(name, envelope, reference.path, value)
    # From here on it is a job like any other: its retries keep these values.
    # rule:40 a job keeps the results that it once got, however often it is retried
    envelope.headers = without_references(envelope.headers)
    attempt.envelope = envelope
    attempt.job = attempt.job._replace(envelope=envelope.encode())


def _value(name: str, ref: JobRef, leaf: Leaf, record: JobRecord | None) -> Any:
    has_failed = record is None or record.state is not State.SUCCEEDED
    if has_failed and leaf.default is not None:
        return leaf.default[0]
    # rule:40 a job whose results are gone does not run with anything else
    if record is None or record.outcome is None:
        raise ResultMissing(
            f"{name}: the result of job {ref} is not there any more; results are kept for keep= "
            "of the flow after the end of their node, so start it with a larger one"
        )
    if record.state is not State.SUCCEEDED:
        raise ResultMissing(
            f"{name}: job {ref} is {record.state} and has no result; write node.result_or(...) "
            "for a node that runs all the same"
        )
    outcome = Outcome.decode(record.outcome)
    if outcome.unavailable:
        raise ResultMissing(f"{name}: the result of job {ref} was not kept: {outcome.unavailable}")
    return outcome.value


def _set(name: str, envelope: Envelope, path: Sequence[int | str], value: Any) -> None:
    """Put the value at its place. Raises ResultMissing if there is no such place."""
    place: Any = envelope.kwargs
    if isinstance(path[0], int):
        place = envelope.args
    try:
        for step in path[:-1]:
            place = place[step]
        # Only what `None` stands for is replaced, so a foreign path changes no other value.
        if place[path[-1]] is not None:
            raise KeyError(path[-1])
        place[path[-1]] = value
    except (LookupError, TypeError) as error:
        raise ResultMissing(
            f"{name}: its arguments have no place for a result at {path}"
        ) from error
