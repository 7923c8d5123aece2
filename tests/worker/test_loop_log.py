"""asyncio logs what callbacks raise: a log handler that raises there must not end the loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.guard.guarded import loop_guarded
from tests.worker.kit import LIMIT_S, register, working

pytestmark = pytest.mark.anyio


class Raising(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise ValueError("planted in a handler")


def breaks() -> None:
    raise KeyError("planted in a callback")


async def leaves_callback() -> str:
    asyncio.get_running_loop().call_soon(breaks)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    return "done"


@pytest.fixture
def raising_log() -> Iterator[None]:
    handler = Raising()
    logging.getLogger("asyncio").addHandler(handler)
    yield
    logging.getLogger("asyncio").removeHandler(handler)


def test_without_the_guard_the_loop_ends(raising_log: None) -> None:
    """Else the tests below would prove nothing."""
    with pytest.raises(ValueError, match="planted in a handler"):
        asyncio.run(leaves_callback())


async def test_a_worker_outlives_a_callback_that_raises(app: AsyncJobs, raising_log: None) -> None:
    job = register(app, leaves_callback)
    loop = asyncio.get_running_loop()
    of_the_tests = loop.get_exception_handler()
    loop.set_exception_handler(None)
    try:
        async with working(app):
            for _ in range(3):
                handle = await job.enqueue()
                assert await handle.result(LIMIT_S) == "done"
        assert loop.get_exception_handler() is None
    finally:
        loop.set_exception_handler(of_the_tests)


async def test_a_handler_of_the_user_stays_and_is_asked(raising_log: None) -> None:
    loop = asyncio.get_running_loop()
    asked: list[object] = []

    def ask(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        asked.append(context["exception"])
        raise SystemExit("planted in an exception handler")

    before = loop.get_exception_handler()
    loop.set_exception_handler(ask)
    try:
        with loop_guarded():
            assert await leaves_callback() == "done"
        assert loop.get_exception_handler() is ask
    finally:
        loop.set_exception_handler(before)
    assert [type(each) for each in asked] == [KeyError]
