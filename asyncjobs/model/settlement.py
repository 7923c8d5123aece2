"""How an attempt ended, as the store records it, and what its success causes besides."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from asyncjobs.model.job import NewJob, State, TakenJob
from asyncjobs.model.terms import Barrier

__all__ = ["MOST_EFFECT_BYTES", "MOST_EFFECT_JOBS", "Effects", "Settlement", "SettlementKind"]

MOST_EFFECT_JOBS: Final = 1_000
"""New jobs that one settlement may carry."""

MOST_EFFECT_BYTES: Final = 4 << 20
"""Bytes of their envelopes, together."""


class Effects(NamedTuple):
    """What a success causes besides: new jobs, and barriers for them.

    At most MOST_EFFECT_JOBS, MOST_EFFECT_BYTES together. They are stored in the step that
    records the success, or not at all.
    """

    jobs: tuple[NewJob, ...] = ()
    barriers: tuple[Barrier, ...] = ()


class SettlementKind(StrEnum):
    """What a settlement does to the stored job."""

    FINISH = "finish"
    RESCHEDULE = "reschedule"
    RELEASE = "release"


# Named once: looking a member up in its enumeration is slow before Python 3.12.
_FINISH, _SUCCEEDED = SettlementKind.FINISH, State.SUCCEEDED


class Settlement(NamedTuple):
    """How an attempt ended; made by the named constructors only.

    `outcome` is the encoded record that waiters read, kept for `result_ttl_ms`
    (0 keeps none); `dead_letter` is what inspection shows of a dead job; `effects` is what
    the store does in the same step, only with a success.
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

    @classmethod
    def succeeded(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """The attempt returned a value."""
        return cls(job, _FINISH, _SUCCEEDED, outcome, result_ttl_ms)

    def causing(self, effects: Effects) -> Settlement:
        """This success, which stores `effects` if it counts.

        They are dropped where the success is not recorded: the lease was lost, or it has been
        recorded before. Any other settlement with effects is refused by the store.
        """
        return self._replace(effects=effects)

    @classmethod
    def discarded(
        cls, job: TakenJob, outcome: bytes | None = None, result_ttl_ms: int = 0
    ) -> Settlement:
        """The job asked for its end, or raised what its `discard_on` names."""
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
        """No attempt is left, or the job cannot be run at all."""
        return cls(job, SettlementKind.FINISH, State.DEAD, outcome, result_ttl_ms, dead_letter)

    @classmethod
    def reschedule(cls, job: TakenJob, envelope: bytes, delay_ms: int) -> Settlement:
        """Run again `delay_ms` from now with this envelope: a retry or a snooze."""
        return cls(
            job, SettlementKind.RESCHEDULE, State.SCHEDULED, envelope=envelope, delay_ms=delay_ms
        )

    @classmethod
    def release(cls, job: TakenJob) -> Settlement:
        """Give the job back unharmed: it keeps its place and spends no attempt."""
        return cls(job, SettlementKind.RELEASE, State.READY)
