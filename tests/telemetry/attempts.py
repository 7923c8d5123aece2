"""Attempts that no worker has made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asyncjobs.model.attempt import AttemptInfo
from asyncjobs.model.job import JobRecord
from asyncjobs.model.refs import JobRef

__all__ = ["attempt_info", "knows_nothing"]


async def knows_nothing(refs: Sequence[JobRef]) -> list[JobRecord | None]:
    """A store that must not be asked."""
    raise AssertionError(f"asked for {refs}")


def attempt_info(
    ref: JobRef | None = None, *, waited_ms: int = 0, tracing: str = "link", **fields: Any
) -> AttemptInfo:
    """The first attempt of a job, begun `waited_ms` after it was ready."""
    known: dict[str, Any] = {
        "ref": ref or JobRef("default", "1"),
        "name": "f",
        "number": 1,
        "max_attempts": 3,
        "priority": 2,
        "worker": "worker-1",
        "enqueued_ms": 1,
        "scheduled_ms": None,
        "ready_ms": 1,
        "began_ms": 1 + waited_ms,
        "tracing": tracing,
        "trace": None,
        "stops": [],
    }
    return AttemptInfo(**(known | fields))
