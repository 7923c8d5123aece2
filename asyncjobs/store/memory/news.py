"""What a call has brought to a queue in memory, and whether a worker has to hear of it."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["News"]


class News:
    """Work that has come, of which nobody was signalled yet.

    `is_ready`: a job was made ready, which the caller may take itself. `has_work`: somebody has to
    be signalled.
    """

    __slots__ = ("_signal", "has_work", "is_ready")

    def __init__(self, signal: Callable[[], None]) -> None:
        self._signal = signal
        self.has_work = False
        self.is_ready = False

    def tell(self) -> None:
        """Signal once for all work that has come in this call."""
        # As a server does it: a second signal would wake another worker for nothing.
        if self.has_work:
            self.has_work = False
            self._signal()
        self.is_ready = False

    def tell_all(self) -> None:
        """The same by a caller that takes nothing itself: for what was made ready, too."""
        self.has_work |= self.is_ready
        self.tell()
