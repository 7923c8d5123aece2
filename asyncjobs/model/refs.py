"""The identity of a job: its queue and its id."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["JobRef"]


class JobRef(NamedTuple):
    """A job's identity: its `queue`, and its `id`, which is unique there.

    `str(ref)` is the public id, `queue/id`.
    """

    queue: str
    id: str

    def __str__(self) -> str:
        return f"{self.queue}/{self.id}"
