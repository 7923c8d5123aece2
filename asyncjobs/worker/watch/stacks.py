"""The stack of a thread, or of a task that waits, as text: where the code hangs."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, Final

from asyncjobs.model.codec import clean_text

__all__ = ["frames_above", "stack_text", "task_frames"]

MOST_FRAMES: Final = 30
MOST_AWAITS: Final = 1_000
"""The chain of awaits of a mock is endless."""


def frames_above(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and its callers, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def task_frames(awaiting: Any) -> Iterator[FrameType]:
    """The frames in which a suspended coroutine waits, outermost first.

    A task itself shows only the first one. They end at an awaitable of the user's own.
    """
    for _ in range(MOST_AWAITS):
        for kind, waits_for in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = _attribute(awaiting, f"{kind}_frame")
            if isinstance(frame, FrameType):
                yield frame
                awaiting = _attribute(awaiting, f"{kind}_{waits_for}")
                break
        else:
            return


def _attribute(awaiting: Any, name: str) -> Any:
    try:
        return getattr(awaiting, name, None)
    except BaseException:  # a proxy of the user's own may raise
        return None


def stack_text(frames: Iterable[FrameType]) -> str:
    """The innermost of these frames as lines of a traceback. `frames`: outermost first."""
    kept = list(frames)[-MOST_FRAMES:]
    # Line numbers are read now, because a frame that runs moves on.
    places = [(frame, frame.f_lineno) for frame in kept]
    try:
        lines = traceback.StackSummary.extract(iter(places), lookup_lines=True).format()
    except BaseException:  # the loader of a module of the user's own is asked for its source
        lines = [_line(frame.f_code, number) for frame, number in places]
    return clean_text("".join(lines)).rstrip()


def _line(code: CodeType, number: int) -> str:
    return f'  File "{code.co_filename}", line {number}, in {code.co_name}\n'
