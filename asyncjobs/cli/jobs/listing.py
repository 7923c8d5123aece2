"""`asyncjobs jobs list`: the jobs in a state that pass the filters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import click

from asyncjobs.cli.jobs.filters import STATE, filter_options, read_filters
from asyncjobs.cli.shared.render import Table, clean, moment, show, show_json
from asyncjobs.cli.shared.store_command import ask, refusals, store_options
from asyncjobs.cli.shared.values import count, show_duration
from asyncjobs.errors import StoreError, UsageError
from asyncjobs.guard.untrusted import MOST_COUNT, in_range
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.info import JobError, Progress
from asyncjobs.jobs.rows import JobRow, row_of
from asyncjobs.model.job import State
from asyncjobs.store.listing import ENDED_STATES, JobCursor, JobQuery
from asyncjobs.store.looking import check_query
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["list_jobs", "max_attempts", "progress_text"]

_EPILOG = """\b
Exit codes:
  0  shown, even if there is no such job
  1  a queue cannot be read, or the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
PAGE: Final = 500


def max_attempts(name: str, options: dict[str, Any] | None) -> int | None:
    """How many attempts a job may have, as far as the job itself says it: commands have no app."""
    return in_range((options or {}).get("max_attempts"), MOST_COUNT) or None


@click.command("list", epilog=_EPILOG)
@click.argument("state", type=STATE)
@filter_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most this many.",
)
@click.option("--after", metavar="CURSOR", help="Go on behind the page that has named this.")
@click.option("--oldest-first", is_flag=True, help="Show the oldest first.")
@click.option(
    "--look-at",
    type=click.IntRange(min=1),
    default=100_000,
    show_default=True,
    metavar="N",
    help="Stop looking for jobs that pass the filters after about so many.",
)
@store_options
@click.pass_context
def list_jobs(
    ctx: click.Context, /, state: str, url: str | None, prefix: str, *, as_json: bool, **flags: Any
) -> None:
    """List the jobs in a state, the newest first.

    Ready jobs are in the order in which they became ready, scheduled ones in that of their times,
    and running ones in the order in which they had become ready. Dead jobs are kept as letters,
    and others that have ended are listed as far as the history of their queue goes. Values that
    were declared sensitive are masked. Does not import the app.
    """
    wanted = State(state)
    filters = read_filters(ctx, flags, wanted)
    after = _read_cursor(ctx, flags.pop("after"), wanted)

    async def question(store: Backend, info: StoreInfo) -> int:
        query = await filters.query(store, wanted, oldest_first=flags["oldest_first"])
        found = await _find(store, query, after, flags["limit"], flags["look_at"])
        code = ExitCode.failed_if(found.refused)
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        cursor = None
        if found.after is not None:
            cursor = found.after.text()
        if as_json:
            show_json(
                {
                    "state": wanted,
                    "jobs": [_fields(row) for row in found.rows],
                    "after": cursor,
                    "is_bounded": found.is_bounded,
                    "looked_at": found.looked,
                    "refused": {queue: str(error) for queue, error in found.refused.items()},
                }
            )
            return code
        if found.rows:
            show(_table(wanted, found.rows))
        click.echo(_summary(wanted, found, cursor), err=True)
        return code

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _read_cursor(ctx: click.Context, text: str | None, state: State) -> JobCursor | None:
    if text is None:
        return None
    try:
        cursor = JobCursor.read(text)
        check_query(JobQuery(state), cursor)
        return cursor
    except UsageError as error:
        raise click.UsageError(f"--after: {error}", ctx) from None


class _Found(NamedTuple):
    rows: list[JobRow]
    after: JobCursor | None
    looked: int
    is_bounded: bool
    refused: dict[str, StoreError]


async def _find(
    store: Backend, query: JobQuery, after: JobCursor | None, limit: int, look_at: int
) -> _Found:
    """The next `limit` jobs, from several pages of the store if need be."""
    rows: list[JobRow] = []
    refused: dict[str, StoreError] = {}
    looked = 0
    # The store looks at a few thousand jobs a page. An operator wants to see jobs, not pages.
    while True:
        query = query._replace(limit=min(limit - len(rows), PAGE))
        page = await store.inspect.jobs.page(query, after)
        # Masked before anything is shown, and for JSON as well: output ends up in tickets.
        rows += [row_of(job, max_attempts).redacted() for job in page.jobs]
        refused |= page.refused
        looked += page.looked
        after = page.after
        is_full = len(rows) >= limit
        if after is None or is_full or looked >= look_at:
            return _Found(rows, after, looked, after is not None and not is_full, refused)


def _summary(state: State, found: _Found, cursor: str | None) -> str:
    jobs = count(len(found.rows), f"{state} job")
    if not found.rows:
        jobs = f"no {state} job"
    if found.is_bounded:
        return f"{jobs} among {found.looked:,}; look further with --after {cursor}"
    if cursor is not None:
        return f"{jobs}; more with --after {cursor}"
    return jobs


def _fields(row: JobRow) -> dict[str, Any]:
    info = row.info
    progress = info.progress
    return {
        "job": str(row.ref),
        "queue": row.ref.queue,
        "id": row.ref.id,
        "state": row.state,
        "function": info.name,
        "priority": _priority(row) or None,
        "attempt": info.attempt,
        "at": row.time,
        "enqueued_at": info.enqueued_at,
        "worker": row.worker,
        "held_by": info.held_by,
        "meta": dict(info.meta),
        "tags": list(info.tags),
        "is_cancelled": info.is_cancelled,
        "progress": progress and _progress_fields(progress),
        "reason": info.reason,
        "error": _last_error_fields(row),
        "ran_s": row.ran_s,
        "size": row.size,
        "is_readable": row.is_readable,
    }


def _progress_fields(progress: Progress) -> dict[str, Any]:
    return {"done": progress.done, "total": progress.total, "note": progress.note}


def _last_error(row: JobRow) -> JobError | None:
    if not row.info.errors:
        return None
    return row.info.errors[-1]


def _last_error_fields(row: JobRow) -> dict[str, Any] | None:
    error = _last_error(row)
    if error is None:
        return None
    return {"type": error.type, "message": error.message, "at": error.at}


# The columns behind the job and its function.
_COLUMNS: Final[dict[State, tuple[str, ...]]] = {
    State.READY: ("priority", "attempt", "ready since"),
    State.SCHEDULED: ("priority", "attempt", "due", "last error"),
    State.HELD: ("priority", "held by", "held since"),
    State.RUNNING: ("worker", "attempt", "since", "progress"),
    State.DEAD: ("reason", "attempt", "died", "error"),
    **dict.fromkeys(ENDED_STATES, ("worker", "attempt", "ended", "ran", "error")),
}


def _table(state: State, rows: Sequence[JobRow]) -> Table:
    columns = ("job", "function", *_COLUMNS[state])
    cells = [[clean(_cell(row, column)) for column in columns] for row in rows]
    return Table(columns, cells, frozenset({"attempt", "ran"}))


def _cell(row: JobRow, column: str) -> str:
    info = row.info
    if column == "job":
        return str(row.ref)
    if column == "function":
        # In brackets, which no name of a function has.
        return row.name if row.is_readable else "(unreadable)"
    if column == "priority":
        return _priority(row)
    if column == "attempt":
        return "" if info.attempt is None else str(info.attempt)
    if column == "held by":
        return _holder(row)
    if column == "worker":
        return f"{row.worker}, asked to stop" if info.is_cancelled else row.worker or ""
    if column == "ran":
        return "" if row.ran_s is None else show_duration(round(row.ran_s, 4))
    if column == "progress":
        return progress_text(info.progress)
    if column == "reason":
        return info.reason or ""
    if column == "last error" and info.held_by is not None:
        # Why it is scheduled now: its event may come before its time.
        return f"waits for {info.held_by}"
    if column in ("error", "last error"):
        error = _last_error(row)
        return "" if error is None else _on_one_line(error)
    return "no known time" if row.time is None else moment(row.time)


def _priority(row: JobRow) -> str:
    priority = row.info.priority
    if priority is None:
        return ""
    return priority.name.lower()


def _holder(row: JobRow) -> str:
    """What has to end before a held job, as a person reads it."""
    return (row.info.held_by or "").removeprefix("job ")


def _on_one_line(error: JobError) -> str:
    first_line = error.message.strip().partition("\n")[0]
    return ": ".join(filter(None, (error.type, first_line)))


def progress_text(progress: Progress | None) -> str:
    """A report of progress as people read it."""
    if progress is None:
        return ""
    done = f"{progress.done:g}"
    if progress.total is not None:
        done += f" of {progress.total:g}"
    return f"{done} {progress.note}".rstrip()
