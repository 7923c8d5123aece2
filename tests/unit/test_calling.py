"""Call plans: the steps before the call of a job function, and what they leave open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from asyncjobs.jobs.calling import CallPlan, Prepared

pytestmark = pytest.mark.anyio


def at_once(function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
    made: Coroutine[Any, Any, Any] = function()
    return made


async def shown(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def test_an_empty_plan_is_false() -> None:
    assert not CallPlan()
    assert CallPlan([lambda prepared: None])


async def test_steps_pass_in_order_sync_and_async() -> None:
    def double(prepared: Prepared) -> None:
        prepared.args = [2 * value for value in prepared.args]

    async def add(prepared: Prepared) -> None:
        prepared.kwargs["sum"] = sum(prepared.args)

    plan = CallPlan([double]) + CallPlan([add])
    assert await plan.call(shown, [1, 2], {}, at_once) == ((2, 4), {"sum": 6})


@pytest.mark.parametrize("fails", [False, True])
async def test_what_a_step_opens_is_closed_after_the_call(fails: bool) -> None:
    told: list[Any] = []

    @asynccontextmanager
    async def opened() -> AsyncIterator[str]:
        told.append("open")
        try:
            yield "pool"
        except ValueError as error:
            told.append(error.args[0])
            raise
        finally:
            told.append("closed")

    async def enter(prepared: Prepared) -> None:
        prepared.kwargs["pool"] = await prepared.exits.enter_async_context(opened())

    async def work(pool: str) -> str:
        told.append(pool)
        if fails:
            raise ValueError("failed")
        return "value"

    plan = CallPlan([enter])
    if fails:
        with pytest.raises(ValueError, match="failed"):
            await plan.call(work, [], {}, at_once)
        assert told == ["open", "pool", "failed", "closed"]
    else:
        assert await plan.call(work, [], {}, at_once) == "value"
        assert told == ["open", "pool", "closed"]


async def test_a_step_that_raises_leaves_the_function_uncalled() -> None:
    def refuse(prepared: Prepared) -> None:
        raise LookupError("no")

    async def never() -> None:
        raise AssertionError

    with pytest.raises(LookupError):
        await CallPlan([refuse]).call(never, [], {}, at_once)
