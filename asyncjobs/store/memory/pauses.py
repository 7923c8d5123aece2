"""What is paused in one queue in memory."""

from __future__ import annotations

from typing import Final, NamedTuple

from asyncjobs.errors import UsageError
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.envelope import name_in
from asyncjobs.store.control import Pause

__all__ = ["Pauses", "function_in"]

MOST_FUNCTIONS: Final = 1000


class _Mark(NamedTuple):
    since_ms: int
    info: bytes


def function_in(envelope: bytes) -> str:
    """The name of the job function in an envelope, '' when it has none."""
    found = name_in(envelope)
    if found:
        return found
    try:
        # Another program has written it: its blanks or the order of its fields differ.
        name = read_fields(envelope).get("f")
    except BadRecord:
        return ""
    return name if isinstance(name, str) else ""


class Pauses:
    """The pauses of a queue: of the whole of it (None), and of job functions, by name."""

    __slots__ = ("_marks",)

    def __init__(self) -> None:
        self._marks: dict[str | None, _Mark] = {}

    def __len__(self) -> int:
        return len(self._marks)

    @property
    def is_whole(self) -> bool:
        """Whether nothing of the queue is handed out."""
        return None in self._marks

    def pause(self, queue: str, function: str | None, info: bytes, now: int) -> bool:
        """True when it was not paused. Raises UsageError for too many functions."""
        before = self._marks.get(function)
        if before is None and len(self._marks) >= MOST_FUNCTIONS:
            raise UsageError(
                f"1,000 job functions of the queue {queue!r} are paused, and no more can be: "
                "pause the queue itself, or resume functions that are gone"
            )
        since_ms = now if before is None else before.since_ms
        self._marks[function] = _Mark(since_ms, info)
        return before is None

    def resume(self, function: str | None) -> bool:
        """True when it was paused."""
        return self._marks.pop(function, None) is not None

    def paused_function(self, envelope: bytes) -> str | None:
        """The name of the job function in an envelope, if that function is paused."""
        if not self._marks:
            return None
        name = function_in(envelope)
        # rule:18 a job waits while its function is paused, in memory
        return name if name and name in self._marks else None

    def listed(self, queue: str) -> list[Pause]:
        """See `QueueControl.paused`."""
        marks = sorted(self._marks.items(), key=lambda item: item[0] or "")
        return [Pause(queue, name, mark.since_ms, mark.info) for name, mark in marks]
