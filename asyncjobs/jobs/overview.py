"""`app.jobs`: many jobs at once, listed by state and filters, and acted on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias, TypedDict, Unpack

from asyncjobs.errors import JobNotFound, PayloadTooLarge, StoreError, UsageError
from asyncjobs.jobs import acting
from asyncjobs.jobs.acting import ActionVerdict, Chosen
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.info import envelope_of
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.jobs.rows import JobRow, JobRows, row_of
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.options.checks import check_queue_name
from asyncjobs.options.labels import check_meta, check_tags
from asyncjobs.store.listing import LISTED_STATES, JobCursor, JobQuery
from asyncjobs.store.seam import Backend

__all__ = ["JobFilters", "Jobs", "check_arguments", "run_at_ms", "store_now_ms"]


class JobFilters(TypedDict, total=False):
    """Which jobs a list has. A job must pass all that are given.

    queue: its queue, or several of them.
    function: the name of its job function, or a pattern with `*`, `?` and `[...]`.
    newer_than, older_than: how long ago its time is at the most or at the least (seconds or
    timedelta): since when it is ready, held or runs, when it is due, or when it ended.
    error: part of the type of its last error, in upper or lower case.
    message: part of the text of its last error, in upper or lower case.
    meta: labels that it has, all of them.
    tags: tags that it has, all of them.
    oldest_first: begin with the oldest one.
    """

    queue: str | Sequence[str]
    function: str
    newer_than: Seconds
    older_than: Seconds
    error: str
    message: str
    meta: Mapping[str, str]
    tags: Sequence[str]
    oldest_first: bool


Given: TypeAlias = JobRow | JobRef | JobHandle[Any]
"""A job, by whatever names it. A row means the job in the state in which it was listed."""
Verdicts: TypeAlias = list[ActionVerdict]
"""What became of each job, in the order in which they were given."""


class Jobs:
    """All jobs of the store, by state.

    Jobs of each state can be listed. Those that have succeeded, or were discarded or cancelled, are
    listed as far as the history of their queue goes. All methods raise NotOpen outside of
    `async with app`, and StoreUnavailable.
    """

    __slots__ = ("_max_payload", "_reader", "_registry")

    def __init__(self, reader: Reader, registry: JobRegistry, max_payload: int) -> None:
        self._reader = reader
        self._registry = registry
        self._max_payload = max_payload

    async def page(
        self,
        state: State | str,
        *,
        limit: int = 50,
        after: JobCursor | str | None = None,
        **filters: Unpack[JobFilters],
    ) -> JobRows:
        """One page of the jobs in this state, the newest first.

        A page is short when the store stopped looking (`is_bounded`). Go on with `after` until it
        is None. Jobs that come and go meanwhile move no other one to another page.

        Raises UsageError for a state without a list, a limit below 1, and what is no cursor of a
        list of this state.
        """
        store = self._reader.opened()
        if limit < 1:
            raise UsageError(f"limit={limit!r} must be at least 1")
        if isinstance(after, str):
            after = JobCursor.read(after)
        query = await _query(store, state, limit, filters)
        page = await store.inspect.jobs.page(query, after)
        rows = [row_of(job, self._reader.max_attempts) for job in page.jobs]
        return JobRows(rows, page.after, page.looked, page.is_bounded, dict(page.refused))

    async def cancel(self, jobs: Iterable[Given]) -> Verdicts:
        """Cancel jobs: those that wait will not run, and workers are asked to stop running ones.

        Returns what became of each, in their order.
        """
        store = self._reader.opened()
        ttl_ms = self._reader.result_ttl_ms(None, None)
        return await acting.cancel(store, await self._chosen(jobs), ttl_ms)

    async def retry(self, jobs: Iterable[Given]) -> Verdicts:
        """Run dead jobs again, and at once those that wait for another attempt after a failure."""
        return await acting.retry(self._reader.opened(), await self._chosen(jobs))

    async def delete(self, jobs: Iterable[Given]) -> Verdicts:
        """Delete dead jobs and jobs that wait, for good. A running job is never deleted."""
        return await acting.delete(self._reader.opened(), await self._chosen(jobs))

    async def run_now(self, jobs: Iterable[Given]) -> Verdicts:
        """Make scheduled jobs ready, whatever their time is."""
        return await acting.run_now(self._reader.opened(), await self._chosen(jobs))

    async def change(
        self,
        job: Given,
        *,
        args: Sequence[Any] | None = None,
        kwargs: dict[str, Any] | None = None,
        at: datetime | None = None,
        delay: Seconds | None = None,
    ) -> ActionVerdict:
        """Give a job that waits other arguments, another time, or both; a dead job runs again with
        other arguments.

        args, kwargs: its new positional or keyword arguments, all of them, as they are stored:
        `info().args` shows that form.
        at, delay: when it shall run, or in how long.
        A ready job goes behind all others of its priority. One that was taken or changed
        meanwhile is left alone.

        Raises JobNotFound, and UsageError for a function that this app does not know. Raises
        ArgumentsError, EncodeError and PayloadTooLarge for the arguments, as an enqueue does.
        """
        store = self._reader.opened()
        ref = _ref_of(job)
        (record,) = await store.get([ref])
        if record is None:
            raise JobNotFound(f"job {ref}: expired or unknown")
        if args is not None or kwargs is not None:
            check_arguments(self._registry, self._max_payload, record, args, kwargs)
        if record.state is State.DEAD and (at is not None or delay is not None):
            raise UsageError(f"job {ref} is dead, and runs again at once: leave out at= and delay=")
        at_ms = await run_at_ms(store, ref.queue, at=at, delay=delay)
        return await acting.change(store, record, args=args, kwargs=kwargs, at_ms=at_ms)

    async def _chosen(self, jobs: Iterable[Given]) -> list[Chosen]:
        # A row says where the job was when it was listed. For the others that is asked now.
        given = list(jobs)
        asked = [_ref_of(job) for job in given if not isinstance(job, JobRow)]
        found = iter(await acting.choose(self._reader.opened(), asked))
        chosen: list[Chosen] = []
        for job in given:
            if isinstance(job, JobRow):
                chosen.append(Chosen(job.chosen, job.state, bool(job.info.errors)))
            else:
                chosen.append(next(found))
        return chosen

    # Last, for behind it `list` means this method.
    async def list(
        self, state: State | str, *, limit: int | None = None, **filters: Unpack[JobFilters]
    ) -> AsyncIterator[JobRow]:
        """All jobs in this state, page by page, at most `limit`. Raises like `page`.

        A queue that cannot be read raises its error, after the jobs of the others on that page.
        """
        after: JobCursor | None = None
        given = 0
        while limit is None or given < limit:
            most = 500 if limit is None else min(limit - given, 500)
            page = await self.page(state, limit=most, after=after, **filters)
            for row in page.rows:
                yield row
            # Who goes through all jobs must not take those of some queues for all.
            for error in page.refused.values():
                raise error
            given += len(page.rows)
            after = page.after
            if after is None:
                return


def _ref_of(job: Given) -> JobRef:
    if isinstance(job, JobRef):
        return job
    return job.ref


def check_arguments(
    registry: JobRegistry,
    max_payload: int,
    record: JobRecord,
    args: Sequence[Any] | None,
    kwargs: dict[str, Any] | None,
) -> None:
    """Check new arguments of a job against its function; None stands for those that it has.

    Raises UsageError for a job whose function is not registered, ArgumentsError, EncodeError and
    PayloadTooLarge.
    """
    envelope = envelope_of(record)
    if envelope is None:
        raise UsageError(f"job {record.ref} cannot be read, so its arguments cannot be changed")
    name = envelope.name
    function = registry.find(name)
    if function is None:
        raise UsageError(
            f"job {record.ref} is of the job function {name!r}, which this app does not have, so "
            "its arguments cannot be checked: change it where the function is registered"
        )
    new_args = envelope.args if args is None else args
    new_kwargs = envelope.kwargs if kwargs is None else kwargs
    function.binding.check_stored(new_args, new_kwargs)
    envelope.args = list(new_args)
    envelope.kwargs = new_kwargs
    size = len(envelope.encode())
    if size > max_payload:
        raise PayloadTooLarge(
            f"{name}: the job would have {size:,} bytes, and max_payload is {max_payload:,} bytes"
        )


async def run_at_ms(
    store: Backend, queue: str, *, at: datetime | None, delay: Seconds | None
) -> int | None:
    """When a job shall run, by the clock of the store; None if neither is given."""
    if at is not None and delay is not None:
        raise UsageError("give at= or delay=, not both")
    if delay is not None:
        now = await store_now_ms(store, (queue,))
        return now + round(1000 * seconds(delay, field="delay"))
    if at is None:
        return None
    if at.utcoffset() is None:
        raise UsageError(f"at={at!r} has no time zone; write datetime.now(UTC), for example")
    return round(at.timestamp() * 1000)


async def store_now_ms(store: Backend, queues: tuple[str, ...]) -> int:
    """The time by the clock of the store: that of this machine may differ."""
    # Without an answer there is no time, and every job would pass a filter that says since when.
    # So another queue is asked when one cannot be read.
    refused: StoreError | None = None
    for queue in queues or ("default",):
        # Any list says the time. That of the dead jobs is one place of a queue: one short call.
        query = JobQuery(State.DEAD, (queue,), limit=1, most_looks=1, cut=0)
        page = await store.inspect.jobs.page(query)
        refused = page.refused.get(queue)
        if refused is None:
            return page.now_ms
    assert refused is not None
    raise refused


async def _query(store: Backend, state: State | str, limit: int, filters: JobFilters) -> JobQuery:
    # A State is its text, so both are found.
    if state not in list(State):
        raise UsageError(f"{state!r} is no state; list jobs that are {', '.join(LISTED_STATES)}")
    queue = filters.get("queue", ())
    names = (queue,) if isinstance(queue, str) else tuple(queue)
    queues = tuple(check_queue_name(name) for name in names)
    query = JobQuery(
        State(state),
        queues,
        filters.get("function"),
        error=filters.get("error"),
        message=filters.get("message"),
        meta=tuple(check_meta(filters.get("meta", {}), field="meta").items()),
        tags=check_tags(filters.get("tags", ()), field="tags"),
        oldest_first=filters.get("oldest_first", False),
        limit=limit,
    )
    newer = filters.get("newer_than")
    older = filters.get("older_than")
    if newer is None and older is None:
        return query
    now = await store_now_ms(store, queues)
    if newer is not None:
        query = query._replace(since_ms=now - round(1000 * seconds(newer, field="newer_than")))
    if older is not None:
        query = query._replace(before_ms=now - round(1000 * seconds(older, field="older_than")))
    return query
