"""How a job ended, as it is stored: the outcome, and the dead letter that begins with it."""

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
    """How a job ended, as waiters read it.

    `value` only when succeeded; `unavailable` says why a value could not be kept;
    `reason`, `error_type`, `message`, `traceback` describe the other ends, `worker` names
    the one that saw the error. `name`, `attempt` and `finished_ms` (the worker's clock)
    outlive the envelope here; they are empty for a job that was cancelled before it ran.
    """

    __slots__ = (
        "attempt",
        "error_type",
        "finished_ms",
        "message",
        "name",
        "reason",
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

    def encode(self) -> bytes:
        """As stored. Raises EncodeError when the value is no JSON."""
        fields: dict[str, Any] = {"s": self.state.value}
        if self.attempt:
            fields["n"] = self.attempt
            fields["f"] = self.name
            fields["e"] = self.finished_ms
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
            raise EncodeError(f"the result cannot be written as JSON: {error}") from error

    @classmethod
    def decode(cls, raw: bytes) -> Outcome:
        """Raises BadRecord."""
        try:
            fields = parse(raw)
            state = State(fields["s"])
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
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BadRecord(f"{type(error).__name__}: {error}") from error

    @property
    def summary(self) -> str:
        """The error's type and message on one line."""
        return ": ".join(part for part in (self.error_type, self.message) if part)

    def as_error(self, attempt: int = 0) -> PastError:
        """The error that the job ended with; its reason where there was no exception.

        `attempt` is that of its envelope, for an outcome that names none.
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

    The envelope is kept byte by byte, since it may be the very thing that is broken.
    """
    return outcome + b"\n" + envelope


def read_dead_letter(letter: bytes) -> tuple[Outcome, bytes]:
    """Outcome and raw envelope of a dead letter. Raises BadRecord."""
    outcome, _, envelope = letter.partition(b"\n")
    return Outcome.decode(outcome), envelope


def envelope_in(letter: bytes) -> bytes:
    """The raw envelope of a dead letter whose outcome nobody needs; b"" without one."""
    return letter.partition(b"\n")[2]


def revived(letter: bytes, at_ms: int) -> bytes:
    """The envelope with which a dead job starts anew at `at_ms` (epoch): attempt 1, its
    errors kept, and as much time until it expires as it was enqueued with.

    An envelope that cannot be read comes back byte by byte. Raises BadRecord when
    `letter` is no dead letter at all.
    """
    outcome, raw = read_dead_letter(letter)
    try:
        envelope = AnyEnvelope.decode(raw)
    except BadRecord:
        return raw
    if not envelope.has_attempt:
        return raw
    return envelope.started_anew(outcome.as_error(envelope.attempt), at_ms)
