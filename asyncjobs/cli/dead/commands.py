"""`asyncjobs dead list|show|retry|purge`: look at jobs that have failed for good."""

from __future__ import annotations

from datetime import datetime
from heapq import nlargest, nsmallest
from typing import Any, Final, NamedTuple

import click
import orjson

from asyncjobs.cli.dead.filters import read_ids, read_queues, read_wanted, wanted_options
from asyncjobs.cli.dead.letters import Told, Wanted, find, look_for, tell
from asyncjobs.cli.dead.revive import purge, retry
from asyncjobs.cli.shared.render import Part, Table, block, clean, hanging, show, show_json
from asyncjobs.cli.shared.store_command import ask, fail, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.context import from_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.headers import NO_HEADERS, Headers, PastError
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.policy.redaction import Mask, mask_of_raw
from asyncjobs.store.letters import DeadLetter
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["dead"]

MOST_STORED: Final = 2_000
"""Characters that are shown of an envelope that cannot be read."""
_EPILOG = """\b
Exit codes:
  0  shown
  1  no such dead job, or several; a queue cannot be read; the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.group()
def dead() -> None:
    """Look at dead jobs, run them again, or drop them."""


dead.add_command(retry)
dead.add_command(purge)


@dead.command("list", epilog=_EPILOG)
@wanted_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    metavar="N",
    help="Show at most this many.",
)
@click.option("--oldest-first", is_flag=True, help="Show the oldest first.")
@store_options
@click.pass_context
def list_dead(
    ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool, **flags: Any
) -> None:
    """List dead jobs, the newest first.

    Writes the total number to stderr. Does not import the app.
    """
    wanted = read_wanted(ctx, flags)

    async def question(store: Backend, info: StoreInfo) -> int:
        listing = await _list(store, wanted, **flags)
        code = ExitCode.failed_if(listing.refused)
        for problem in refusals(listing.refused):
            click.echo(problem, err=True)
        if as_json:
            jobs = [_row_fields(told) for told in listing.told]
            refused = {queue: str(error) for queue, error in listing.refused.items()}
            show_json({"total": listing.total, "jobs": jobs, "refused": refused})
            return code
        if listing.told:
            show(_listing(listing.told))
        shown = len(listing.told)
        total = count(listing.total, "dead job")
        if shown < listing.total:
            click.echo(f"{shown:,} of {total}; more with --limit", err=True)
        elif shown:
            click.echo(total, err=True)
        else:
            click.echo("no dead job", err=True)
        return code

    ctx.exit(ask(url, prefix, question, as_json=as_json))


class _Listing(NamedTuple):
    told: list[Told]
    total: int
    refused: dict[str, StoreError]


async def _list(store: Backend, wanted: Wanted, limit: int, *, oldest_first: bool) -> _Listing:
    """The first `limit` of all queues together, and how many there are."""
    told: list[Told] = []
    total = 0
    refused: dict[str, StoreError] = {}
    for queue in wanted.queues or await store.inspect.queues.names():
        try:
            own, number = await _list_one(store, wanted, queue, limit, oldest_first=oldest_first)
        except StoreUnavailable:
            raise
        except StoreError as error:
            refused[queue] = error
            continue
        told += own
        total += number
    choose = nsmallest if oldest_first else nlargest
    return _Listing(choose(limit, told, key=lambda each: each.key.died_ms), total, refused)


async def _list_one(
    store: Backend, wanted: Wanted, queue: str, limit: int, *, oldest_first: bool
) -> tuple[list[Told], int]:
    """The first `limit` of one queue, and how many there are."""
    own: list[Told] = []
    matched = in_all = 0
    step = 500 if wanted.reads else limit
    async for found in look_for(store, wanted, queue, limit=step, oldest_first=oldest_first):
        own += found.told[: limit - len(own)]
        matched += len(found.told)
        in_all = found.total
        if len(own) == limit and not wanted.reads:
            break
    # Without a need to read them all, the store's own number is enough.
    return own, matched if wanted.reads else in_all


def _row_fields(told: Told) -> dict[str, Any]:
    ref, died_ms = told.key
    return {
        "job": str(ref),
        "queue": ref.queue,
        "id": ref.id,
        "function": told.function or None,
        "reason": told.reason or None,
        "error": {"type": told.error_type, "message": told.message} if told.error else None,
        "attempts": told.attempts,
        "died_at": _at(died_ms),
        "size": told.size,
    }


def _listing(told: list[Told]) -> Table:
    rows = [
        (
            clean(str(each.key.ref)),
            clean(each.function),
            clean(each.reason),
            clean(each.error),
            str(each.attempts),
            _died(each),
        )
        for each in told
    ]
    columns = ("job", "function", "reason", "error", "attempts", "died")
    return Table(columns, rows, frozenset({"attempts"}))


def _died(told: Told) -> str:
    at = _at(told.key.died_ms)
    return "no known time" if at is None else at.isoformat(sep=" ", timespec="seconds")


@dead.command("show", epilog=_EPILOG)
@click.argument("job_id", metavar="ID")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Look in this queue only.")
@store_options
@click.pass_context
def show_dead(
    ctx: click.Context,
    /,
    job_id: str,
    queues: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Show a dead job: arguments, last error with traceback, earlier errors, retries.

    ID is queue/id. With the id alone, all queues are searched. Values that were declared
    sensitive when the job was enqueued are masked. Does not import the app.
    """
    read_ids(ctx, (job_id,))
    queues = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        letter = await find(store, job_id, queues)
        if isinstance(letter, str):
            return fail(ExitCode.FAILED, letter, as_json=as_json)
        view = _View(letter)
        if as_json:
            show_json(view.fields())
        else:
            show(*view.parts())
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=as_json))


class _View:
    """All that one dead letter holds, read field by field."""

    def __init__(self, letter: DeadLetter) -> None:
        self._letter = letter
        told = tell(letter)
        outcome = Outcome(State.DEAD, reason=told.reason, message=told.message)
        self._envelope: Envelope | None = None
        self._stored: str | None = None
        raw = letter.letter
        try:
            outcome, raw = read_dead_letter(letter.letter)
            self._envelope = Envelope.decode(raw)
        except (BadRecord, NewerEnvelope):
            self._stored = raw.decode("utf-8", "backslashreplace")
        self._mask: Mask | None = None
        try:
            self._mask = mask_of_raw(raw)
        except ValueError as error:
            self._stored = f"(not shown: {error})"
        if self._stored is not None and self._mask is not None:
            # Where its arguments stand is known to the release that wrote it, not here.
            self._stored = "(not shown: it has sensitive arguments)"
        # What an older worker wrote has the values still.
        outcome.reason, outcome.message, outcome.traceback = map(
            self._clear, (outcome.reason, outcome.message, outcome.traceback)
        )
        self._told = told._replace(reason=outcome.reason, message=outcome.message)
        self._outcome = outcome

    def _clear(self, text: str) -> str:
        if self._mask is None:
            return text
        return self._mask.text(text)

    def _arguments(self) -> tuple[list[Any] | None, dict[str, Any] | None]:
        if self._envelope is None:
            return None, None
        if self._mask is None:
            return self._envelope.args, self._envelope.kwargs
        return self._mask.arguments()

    def _earlier(self) -> list[PastError]:
        return [
            error._replace(
                message=self._clear(error.message), traceback=self._clear(error.traceback)
            )
            for error in self._headers.errors()
        ]

    @property
    def _headers(self) -> Headers:
        return NO_HEADERS if self._envelope is None else self._envelope.headers

    def fields(self) -> dict[str, Any]:
        envelope = self._envelope
        outcome = self._outcome
        times, revived_ms = self._headers.revivals()
        args, kwargs = self._arguments()
        last = PastError(
            outcome.attempt,
            outcome.error_type,
            outcome.message,
            outcome.traceback,
            outcome.finished_ms,
            outcome.worker,
        )
        return {
            **_row_fields(self._told),
            "state": "dead",
            "priority": self._letter.priority.name.lower(),
            "enqueued_at": envelope and _at(envelope.enqueued_ms),
            "scheduled_at": envelope and _at(envelope.scheduled_ms),
            "expires_at": envelope and _at(envelope.expires_ms),
            "revived": times,
            "revived_at": _at(revived_ms),
            "args": args,
            "kwargs": kwargs,
            "stored": self._stored,
            "error": _error_fields(last) if self._told.error else None,
            "earlier_errors": [_error_fields(error) for error in self._earlier()],
        }

    def parts(self) -> list[Part]:
        known = self.fields()
        rows = {
            name: _text(known[name])
            for name in (
                "job",
                "state",
                "function",
                "priority",
                "attempts",
                "enqueued_at",
                "scheduled_at",
                "expires_at",
                "died_at",
                "args",
                "kwargs",
                "reason",
            )
        }
        rows["error"] = self._told.error or None
        rows["worker"] = self._outcome.worker or None
        if known["revived"]:
            at = _text(known["revived_at"])
            rows["retried"] = f"{count(known['revived'], 'time')}, last at {at or 'no known time'}"
        if self._stored is not None:
            rows["stored"] = self._stored[:MOST_STORED]
        names = {name: name.removesuffix("_at") for name in rows}
        table = Table(
            ("field", "value"),
            [(names[name], clean(value)) for name, value in rows.items() if value is not None],
        )
        parts: list[Part] = [table]
        if trace := self._outcome.traceback.rstrip():
            parts += ["", block(trace)]
        for error in self._earlier()[::-1]:
            parts += ["", *_earlier(error)]
        return parts


def _earlier(error: PastError) -> list[str]:
    head = f"earlier, attempt {error.attempt}"
    if at := _text(_at(error.at_ms or None)):
        head += f" at {at}"
    if error.worker:
        head += f" on {error.worker}"
    parts = [hanging(f"{head}: {error.type}: {error.message}")]
    if trace := error.traceback.rstrip():
        parts.append(block(trace))
    return parts


def _error_fields(error: PastError) -> dict[str, Any]:
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "attempt": error.attempt,
        "at": _at(error.at_ms or None),
        "worker": error.worker or None,
    }


def _at(ms: int | None) -> datetime | None:
    """None also for a number that somebody else wrote and that is no time."""
    if ms is None:
        return None
    try:
        return from_ms(ms)
    except (OverflowError, ValueError, OSError):
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="milliseconds")
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
