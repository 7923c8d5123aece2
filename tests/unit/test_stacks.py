"""Where a task hangs is told whatever it waits for."""

from __future__ import annotations

import linecache
from collections.abc import Generator
from typing import Any
from unittest.mock import MagicMock

import pytest

from asyncjobs.worker.watch.stacks import MOST_AWAITS, MOST_FRAMES, stack_text, task_frames


class Endless:
    """As a mock: each attribute is one more of its kind, with a frame of its own."""

    def __init__(self, frame: Any) -> None:
        self.cr_frame = frame

    @property
    def cr_await(self) -> Endless:
        return self


class Raising:
    def __getattr__(self, name: str) -> Any:
        raise SystemExit("planted")

    def __await__(self) -> Generator[Any, None, None]:
        yield


async def waits_for(awaitable: Any) -> None:
    await awaitable


def frames_of(awaitable: Any) -> list[Any]:
    coroutine = waits_for(awaitable)
    try:
        coroutine.send(None)
        return [frame.f_code.co_name for frame in task_frames(coroutine)]
    finally:
        coroutine.close()


def test_an_awaitable_that_cannot_be_asked_ends_the_row() -> None:
    assert frames_of(Raising())[:1] == ["waits_for"]
    assert list(task_frames(MagicMock())) == []
    assert list(task_frames(Raising())) == []


def test_an_endless_row_has_an_end() -> None:
    coroutine = waits_for(None)
    frame = coroutine.cr_frame
    found = list(task_frames(Endless(frame)))
    coroutine.close()
    assert len(found) == MOST_AWAITS
    assert stack_text(found).count("waits_for") <= 2 * MOST_FRAMES


def test_a_source_that_cannot_be_read_leaves_the_places(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object, **__: object) -> Any:
        raise SystemExit("planted by a loader")

    coroutine = waits_for(None)
    frame = coroutine.cr_frame
    monkeypatch.setattr(linecache, "checkcache", raises)
    text = stack_text([frame])
    monkeypatch.undo()
    coroutine.close()
    assert f'File "{__file__}", line' in text
    assert text.endswith(", in waits_for")
