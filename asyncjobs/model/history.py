"""What is told of jobs that have ended, and of their attempts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT, in_range
from asyncjobs.model.envelope import name_in
from asyncjobs.model.headers import NO_META, Headers
from asyncjobs.model.job import State
from asyncjobs.model.labels import labels_in
from asyncjobs.model.refs import JobRef

__all__ = [
    "MAX_ERROR",
    "NOTHING",
    "FinishedJob",
    "Run",
    "error_line",
    "finished_job",
    "never_begun",
    "unstarted",
    "with_labels",
]

MAX_ERROR: Final = 200
"""Characters of an error that the history keeps."""

START: Final = 399
"""Bytes of an envelope in which the name of its job function ends."""

Run: TypeAlias = tuple[Any, ...]
"""How an attempt went, as its worker tells it with the settlement: the name of the job function,
the number of the attempt, when the job was enqueued and when the attempt began (ms, by the store's
clock), and its begin and its end by the worker's monotonic clock in seconds. Behind these the error
in one line, if there was one, and behind that the labels of the job as `with_labels` adds them. An
attempt that never began has 0 for its begin.

A plain tuple, for one is made for each attempt."""

NOTHING: Final[Run] = ("", 0, 0, 0, 0.0, 0.0)
"""For a settlement that tells nothing."""


class FinishedJob(NamedTuple):
    """A job that has ended, as the history keeps it. Times are ms by the store's clock, but
    `enqueued_ms` is by the client's.

    `number` counts the ends of its queue. `function` is empty if nobody could read the job, and
    `worker` if none has ended it. `enqueued_ms`, `ready_ms` and `began_ms` are None where they are
    not known: a job may end without an attempt. `lasted_s` is how long its last attempt has run.
    `error` is one line. `tags` and `meta` are those of the job.
    """

    number: int
    ref: JobRef
    state: State
    ended_ms: int
    function: str = ""
    attempt: int = 0
    worker: str = ""
    enqueued_ms: int | None = None
    ready_ms: int | None = None
    began_ms: int | None = None
    lasted_s: float = 0.0
    error: str = ""
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = NO_META

    @property
    def queued_ms(self) -> int | None:
        """How long it was ready before its last attempt began."""
        if self.began_ms is None or self.ready_ms is None:
            return None
        return max(self.began_ms - self.ready_ms, 0)


def finished_job(
    ref: JobRef, state: State, ended_ms: int, worker: str, ready_ms: int, run: Run | None
) -> FinishedJob:
    """The job as it ended; its number is not known yet. All may come from a store. Raises
    ValueError or TypeError for what no worker has told."""
    name, attempt, enqueued_ms, began_ms, began_s, ended_s, *more = run or NOTHING
    error, labels, *_ = (*more, "", None)
    told = Headers.of(labels).labels
    ready_ms = in_range(ready_ms, LAST_MS)
    began_ms = in_range(began_ms, LAST_MS)
    # The worker guesses the store's clock, and is wrong by a few ms. A job that seems to begin
    # before it was ready, or after its end, would show a negative time to whoever subtracts them.
    # rule:19 a job begins between ready and end in the history
    if began_ms and not ready_ms <= began_ms <= ended_ms:
        began_ms = max(min(began_ms, ended_ms), ready_ms)
    return FinishedJob(
        0,
        ref,
        state,
        ended_ms,
        function=str(name),
        attempt=in_range(attempt, MOST_COUNT),
        worker=worker,
        enqueued_ms=in_range(enqueued_ms, LAST_MS) or None,
        ready_ms=ready_ms or None,
        began_ms=began_ms or None,
        lasted_s=max(float(ended_s) - float(began_s), 0.0),
        error=str(error or "")[:MAX_ERROR],
        tags=told.tags,
        meta=told.meta,
    )


def with_labels(run: Run, headers: Headers) -> Run:
    """How an attempt went, with the tags and the labels of its job, if it has any."""
    labels = labels_in(headers.fields)
    if not labels:
        return run
    error = run[6] if len(run) > 6 else ""
    return (*run[:6], error, labels)


def error_line(kind: str, message: str = "") -> str:
    """An error in one line: its type and the beginning of its message."""
    text = ": ".join(part for part in (kind, " ".join(message.split())) if part)
    if len(text) > MAX_ERROR:
        text = f"{text[: MAX_ERROR - 1]}…"
    # Lone surrogates cannot be written as JSON.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def unstarted(envelope: bytes) -> Run | None:
    """A job that ends while it waits, from the beginning of its envelope; None if nobody can read
    that."""
    name = name_in(envelope[:START])
    return never_begun(name, 0, 0) if name else None


def never_begun(name: str, attempt: int, enqueued_ms: int, error: str = "") -> Run:
    """A job that ends without an attempt."""
    return (name, attempt, enqueued_ms, 0, 0.0, 0.0, error)
