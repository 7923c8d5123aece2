"""Changes of jobs that have not started, at the seam: what is asked for, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from asyncjobs.model.refs import JobRef

__all__ = ["Change", "Changed", "JobChanges", "Target"]


class Target(NamedTuple):
    """A job that was chosen. `seen` names the stay in which it was seen (`ListedJob.seen`), so
    that a job that has moved since is left alone; b"" means it as it is."""

    ref: JobRef
    seen: bytes = b""


class Change(NamedTuple):
    """A job that shall have another envelope, made from `expected`. It shall be ready at `at_ms`
    (epoch, by the clock of the store), a time in the past means at once; None leaves its time."""

    ref: JobRef
    expected: bytes
    envelope: bytes
    at_ms: int | None = None


class Changed(StrEnum):
    """What became of a job that was to be changed."""

    DONE = "done"
    GONE = "gone"
    """No living job has the id: it has ended, was deleted, or never was."""
    RUNNING = "running"
    """A worker runs it, and it was left alone."""
    MOVED = "moved"
    """Somebody has changed it or wants to stop it, or it waits elsewhere than it did, and it was
    left alone."""
    READY = "ready"
    """It waits for no time, so there is nothing to run before its time."""
    HELD = "held"
    """It waits for the end of another job or for room at a limit, and cannot run before that."""


class JobChanges(Protocol):
    """Actions on jobs that have not started: `store.inspect.jobs`.

    Each is one step of the store for as many jobs as one call may name. A job that runs is never
    changed. Never refused for memory.
    """

    async def delete(self, targets: Sequence[Target]) -> list[Changed]:
        """Delete jobs that wait, as if they had never been enqueued. Their ids are free at once."""
        ...

    async def run_now(self, targets: Sequence[Target]) -> list[Changed]:
        """Make scheduled jobs ready, behind all others of their priority."""
        ...

    async def change(self, changes: Sequence[Change]) -> list[Changed]:
        """Give jobs that wait other envelopes or other times.

        A job whose envelope is not the expected one any more is left alone, and so is one that
        was given back after somebody has asked to stop it. A ready job goes
        behind all others of its priority, and the crashes that were counted for it are forgotten.
        """
        ...
