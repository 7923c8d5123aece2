"""How an attempt ended, as the store records it, and what its success causes besides."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from asyncjobs.model.history import Run
from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.terms import Barrier

__all__ = ["MOST_EFFECT_BYTES", "MOST_EFFECT_JOBS", "Effects", "Settlement", "SettlementKind"]

MOST_EFFECT_JOBS: Final = 1_000
"""The most new jobs of one settlement."""

MOST_EFFECT_BYTES: Final = 4 << 20
"""The most bytes of their envelopes, together."""


class Effects(NamedTuple):
    """What a success causes besides: new jobs, and the barriers that they wait behind.

    The store records them in the same step as the success, or not at all. There are limits:
    MOST_EFFECT_JOBS, and MOST_EFFECT_BYTES.
    """

    jobs: tuple[NewJob, ...] = ()
    barriers: tuple[Barrier, ...] = ()


class SettlementKind(StrEnum):
    """What a settlement does to the stored job."""

    FINISH = "finish"
    RESCHEDULE = "reschedule"
    RELEASE = "release"
    WAIT = "wait"
    CLOSE = "close"


# Before Python 3.12, looking up a member in its enumeration is slow, and each success needs these.
_FINISH = SettlementKind.FINISH
_SUCCEEDED = State.SUCCEEDED
_new = tuple.__new__


class Settlement(NamedTuple):
    """How an attempt ended, for the store to record. Made by the named constructors only.

    `outcome` is the encoded Outcome, which the store keeps for `result_ttl_ms` (0 keeps none).
    `dead_letter` is the record of a dead job. `effects` are stored in the same step, with a
    success only. `run` is what the history is told of the attempt; None: nothing.
    """

    job: TakenJob
    kind: SettlementKind
    state: State
    outcome: bytes | None = None
    result_ttl_ms: int = 0
    dead_letter: bytes | None = None
    envelope: bytes = b""
    delay_ms: int = 0
    effects: Effects | None = None
    run: Run | None = None

    @classmethod
    def succeeded(
        cls,
        job: TakenJob,
        outcome: bytes | None = None,
        result_ttl_ms: int = 0,
        run: Run | None = None,
    ) -> Settlement:
        """The attempt returned a value."""
        # Not `cls(...)`, which is a function in Python: each job that succeeds passes here.
        return _new(
            cls, (job, _FINISH, _SUCCEEDED, outcome, result_ttl_ms, None, b"", 0, None, run)
        )

    def causing(self, effects: Effects) -> Settlement:
        """This success, together with `effects`.

        If the success is not recorded, the effects are dropped: the lease was lost, or the success
        has been recorded before. The store refuses effects of any other settlement.
        """
        # Not a parameter of `succeeded`: nearly all successes have none, and it is a hot call.
        return self._replace(effects=effects)

    def telling(self, run: Run | None) -> Settlement:
        """This settlement; the history is told how the attempt went."""
        return self._replace(run=run)

    @classmethod
    def discarded(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """The job raised Discard or an exception of its `discard_on`, or it has expired."""
        return cls(job, SettlementKind.FINISH, State.DISCARDED, outcome, result_ttl_ms)

    @classmethod
    def cancelled(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """A user cancelled the job."""
        return cls(job, SettlementKind.FINISH, State.CANCELLED, outcome, result_ttl_ms)

    @classmethod
    def dead(
        cls,
        job: TakenJob,
        dead_letter: bytes,
        outcome: bytes | None = None,
        result_ttl_ms: int = 0,
    ) -> Settlement:
        """The job has no attempt left, or cannot be run at all."""
        return cls(job, SettlementKind.FINISH, State.DEAD, outcome, result_ttl_ms, dead_letter)

    @classmethod
    def reschedule(cls, job: TakenJob, envelope: bytes, delay_ms: int) -> Settlement:
        """Run again `delay_ms` from now with this envelope: a retry or a snooze."""
        return cls(
            job, SettlementKind.RESCHEDULE, State.SCHEDULED, envelope=envelope, delay_ms=delay_ms
        )

    @classmethod
    def waiting(cls, job: TakenJob, envelope: bytes, delay_ms: int) -> Settlement:
        """Run again when the event that the job waits for has come, or `delay_ms` from now.

        It follows a wait that the lease has noted (`Lease.await_events`). An event that has come
        in between makes the job due at once, in the step of this settlement.
        """
        return cls(job, SettlementKind.WAIT, State.SCHEDULED, envelope=envelope, delay_ms=delay_ms)

    def until_event(self) -> Settlement:
        """This reschedule of a job that waits for an event. See `waiting`."""
        return self._replace(kind=SettlementKind.WAIT)

    def closing(self) -> Settlement:
        """This reschedule of a job that was told to come back later, as by HTTP status 429: until
        then nobody passes the limits of its gate under its keys. A job without a gate closes
        nothing."""
        return self._replace(kind=SettlementKind.CLOSE)

    @classmethod
    def release(cls, job: TakenJob) -> Settlement:
        """Give the job back unharmed. It keeps its place and spends no attempt."""
        return cls(job, SettlementKind.RELEASE, State.READY)
