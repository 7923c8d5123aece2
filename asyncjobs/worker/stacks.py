"""Where code hangs, as text: the stack of a thread, or of a task that waits."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any, Final

from asyncjobs.codec import clean_text

__all__ = ["frames_above", "stack_text", "task_frames"]

MOST_FRAMES: Final = 30


def frames_above(frame: FrameType | None) -> Iterator[FrameType]:
    """The frame and its callers, innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def task_frames(awaiting: Any) -> Iterator[FrameType]:
    """What a suspended coroutine waits in, outermost first.

    A task itself tells only the first of them.
    """
    while awaiting is not None:
        for kind, waits_for in (("cr", "await"), ("gi", "yieldfrom"), ("ag", "await")):
            frame = getattr(awaiting, f"{kind}_frame", None)
            if frame is not None:
                yield frame
                awaiting = getattr(awaiting, f"{kind}_{waits_for}")
                break
        else:
            return


def stack_text(frames: Iterable[FrameType]) -> str:
    """The innermost of these frames as lines of a traceback; `frames` outermost first."""
    kept = list(frames)[-MOST_FRAMES:]
    # Line numbers are read now: a frame that runs moves on.
    places = [(frame, frame.f_lineno) for frame in kept]
    lines = traceback.StackSummary.extract(iter(places), lookup_lines=True).format()
    return clean_text("".join(lines)).rstrip()
