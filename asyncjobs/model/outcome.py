"""How a job ended, as it is stored: its outcome, and the dead letter of a dead job."""

from __future__ import annotations

from typing import Any

from asyncjobs.errors import EncodeError
from asyncjobs.guard.untrusted import LAST_MS, read_text, read_whole
from asyncjobs.model.codec import BadRecord, clean_text, parse, to_json
from asyncjobs.model.envelope import AnyEnvelope
from asyncjobs.model.headers import PastError
from asyncjobs.model.job import State

__all__ = ["Outcome", "dead_letter", "envelope_in", "read_dead_letter", "revived"]


class Outcome:
    """How a job ended, as `handle.result()` reads it.

    A job that succeeded has a `value`, or `unavailable` says why its value could not be kept. The
    other ends have `reason`, `error_type`, `message`, `traceback` and the name of the `worker`
    that saw the error. The envelope is deleted at the end of a job, so its `name`, `attempt` and
    `finished_ms` (the worker's clock) are kept here. They are empty for a job that was cancelled
    before it ran. `span` is that of its last attempt, for the jobs of its flow behind it: a
    `traceparent`, empty for a job that is in no flow or was not traced.
    """

    __slots__ = (
        "attempt",
        "error_type",
        "finished_ms",
        "message",
        "name",
        "reason",
        "span",
        "state",
        "traceback",
        "unavailable",
        "value",
        "worker",
    )

    def __init__(
        self,
        state: State,
        value: Any = None,
        *,
        name: str = "",
        attempt: int = 0,
        finished_ms: int = 0,
        unavailable: str = "",
        reason: str = "",
        error_type: str = "",
        message: str = "",
        traceback: str = "",
        worker: str = "",
        span: str = "",
    ) -> None:
        self.state = state
        self.value = value
        self.name = name
        self.attempt = attempt
        self.finished_ms = finished_ms
        self.unavailable = unavailable
        self.reason = reason
        self.error_type = error_type
        self.message = message
        self.traceback = traceback
        self.worker = worker
        self.span = span

    def encode(self) -> bytes:
        """The bytes to store. Raises EncodeError if JSON does not have the value."""
        fields: dict[str, Any] = {"s": self.state.value}
        # A job that was cancelled before it ran has no attempt, and nobody knows its name here.
        if self.attempt:
            fields["n"] = self.attempt
            fields["f"] = self.name
            fields["e"] = self.finished_ms
        if self.span:
            fields["p"] = self.span
        if self.state is State.SUCCEEDED:
            if self.unavailable:
                fields["u"] = clean_text(self.unavailable)
            else:
                fields["r"] = self.value
        else:
            for key, text in (
                ("d", self.reason),
                ("t", self.error_type),
                ("m", self.message),
                ("b", self.traceback),
                ("w", self.worker),
            ):
                if text:
                    fields[key] = clean_text(text)
        try:
            return to_json(fields)
        except (TypeError, ValueError) as error:
            what = f"the result of {self.name}" if self.name else "the result"
            raise EncodeError(f"{what} cannot be written as JSON: {error}") from error

    @classmethod
    def decode(cls, raw: bytes) -> Outcome:
        """Raises BadRecord."""
        try:
            fields = parse(raw)
            state = State(fields["s"])
            # An outcome of a live job would make waiters return before its end.
            if not state.is_final:
                raise ValueError(f"{state.value!r} is no end")
            return cls(
                state,
                fields.get("r"),
                name=read_text(fields, "f"),
                attempt=read_whole(fields, "n"),
                finished_ms=read_whole(fields, "e", most=LAST_MS),
                unavailable=read_text(fields, "u"),
                reason=read_text(fields, "d"),
                error_type=read_text(fields, "t"),
                message=read_text(fields, "m"),
                traceback=read_text(fields, "b"),
                worker=read_text(fields, "w"),
                span=read_text(fields, "p"),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadRecord(f"{type(error).__name__}: {error}") from error

    @property
    def summary(self) -> str:
        """The type and the message of the error, separated by a colon."""
        return ": ".join(part for part in (self.error_type, self.message) if part)

    def as_error(self, attempt: int = 0) -> PastError:
        """The error that the job ended with. Without an exception, the reason stands for its type.

        `attempt`: the one of its envelope, for an outcome that has none.
        """
        return PastError(
            self.attempt or attempt,
            self.error_type or self.reason,
            self.message,
            self.traceback,
            self.finished_ms,
            self.worker,
        )


def dead_letter(outcome: bytes, envelope: bytes) -> bytes:
    """The record of a dead job: its outcome as one line of JSON, then its envelope.

    The envelope is kept as it is, because it may be the very thing that is broken.
    """
    return outcome + b"\n" + envelope


def read_dead_letter(letter: bytes) -> tuple[Outcome, bytes]:
    """The outcome and the raw envelope of a dead letter. Raises BadRecord."""
    # JSON writes a line break in a text as `\n`, so the first real one ends the outcome.
    outcome, _, envelope = letter.partition(b"\n")
    return Outcome.decode(outcome), envelope


def envelope_in(letter: bytes) -> bytes:
    """The raw envelope of a dead letter, without decoding its outcome; b"" if there is none."""
    return letter.partition(b"\n")[2]


def revived(letter: bytes, at_ms: int) -> bytes:
    """The envelope with which a dead job starts anew at `at_ms` (epoch).

    It starts with attempt 1. It keeps its errors, and has as long until it expires as it had at
    its enqueue. An envelope that cannot be read is returned as it is. Raises BadRecord if
    `letter` is no dead letter.
    """
    outcome, raw = read_dead_letter(letter)
    try:
        envelope = AnyEnvelope.decode(raw)
    except BadRecord:
        return raw
    if not envelope.has_attempt:
        return raw
    return envelope.started_anew(outcome.as_error(envelope.attempt), at_ms)
