"""`asyncjobs dead show ID`: everything that one dead letter holds."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

import click
import orjson

from asyncjobs.cli.dead.filters import read_ids, read_queues
from asyncjobs.cli.dead.letters import find, stored_time, summarize
from asyncjobs.cli.shared.render import (
    Part,
    block,
    field_table,
    hanging,
    moment,
    show,
    show_json,
)
from asyncjobs.cli.shared.store_command import ask, fail, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.headers import NO_HEADERS, Headers, PastError
from asyncjobs.model.job import State
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.policy.redaction import Mask, mask_of_call, mask_of_raw
from asyncjobs.store.letters import DeadLetter
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["show_dead"]

MOST_STORED: Final = 2_000
"""How much is shown of an envelope that cannot be read, in characters."""
_EPILOG = """\b
Exit codes:
  0  shown
  1  no such dead job, or several; the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command("show", epilog=_EPILOG)
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
    """Everything that one dead letter holds, with sensitive values masked."""

    def __init__(self, letter: DeadLetter) -> None:
        self._letter = letter
        summary = summarize(letter)
        outcome = Outcome(State.DEAD, reason=summary.reason, message=summary.message)
        self._envelope: Envelope | None = None
        self._stored: str | None = None
        raw = letter.letter
        try:
            outcome, raw = read_dead_letter(letter.letter)
            self._envelope = Envelope.decode(raw)
        except (BadRecord, NewerEnvelope):
            self._stored = raw.decode("utf-8", "backslashreplace")
        self._mask: Mask | None = None
        if self._envelope is not None:
            envelope = self._envelope
            # Commands import no app, so they use the rule that was stored with the job.
            self._mask = mask_of_call(envelope.headers, envelope.args, envelope.kwargs)
        else:
            self._mask_unreadable(raw)
        # Older workers did not mask values in these texts.
        outcome.reason, outcome.message, outcome.traceback = map(
            self._clear, (outcome.reason, outcome.message, outcome.traceback)
        )
        self._summary = summary._replace(reason=outcome.reason, message=outcome.message)
        self._outcome = outcome

    def _mask_unreadable(self, raw: bytes) -> None:
        """Hide an envelope that cannot be read if it has sensitive arguments, or may have some."""
        try:
            self._mask = mask_of_raw(raw)
        except ValueError as error:
            self._stored = f"(not shown: {error})"
            return
        if self._mask is not None:
            # Only the release that wrote it knows where its arguments stand, so they cannot be
            # masked here.
            self._stored = "(not shown: it has sensitive arguments)"

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
        if self._envelope is None:
            return NO_HEADERS
        return self._envelope.headers

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
        error = None
        if self._summary.error:
            error = _error_fields(last)
        return {
            **self._summary.fields(),
            "state": "dead",
            "priority": self._letter.priority.name.lower(),
            "enqueued_at": envelope and stored_time(envelope.enqueued_ms),
            "scheduled_at": envelope and stored_time(envelope.scheduled_ms),
            "expires_at": envelope and stored_time(envelope.expires_ms),
            "revived": times,
            "revived_at": stored_time(revived_ms),
            "args": args,
            "kwargs": kwargs,
            "stored": self._stored,
            "error": error,
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
        rows["error"] = self._summary.error or None
        rows["worker"] = self._outcome.worker or None
        if known["revived"]:
            at = _text(known["revived_at"])
            rows["retried"] = f"{count(known['revived'], 'time')}, last at {at or 'no known time'}"
        if self._stored is not None:
            rows["stored"] = self._stored[:MOST_STORED]
        shown = {name.removesuffix("_at"): value for name, value in rows.items()}
        parts: list[Part] = [field_table(shown)]
        if trace := self._outcome.traceback.rstrip():
            parts += ["", block(trace)]
        for error in self._earlier()[::-1]:
            parts += ["", *_earlier(error)]
        return parts


def _earlier(error: PastError) -> list[str]:
    head = f"earlier, attempt {error.attempt}"
    if at := _text(stored_time(error.at_ms or None)):
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
        "at": stored_time(error.at_ms or None),
        "worker": error.worker or None,
    }


def _text(value: Any) -> str | None:
    if isinstance(value, datetime):
        return moment(value)
    if value is None or isinstance(value, str):
        return value
    return orjson.dumps(value).decode()
