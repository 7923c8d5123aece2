"""A job that succeeded stays a success, whatever looking at its result raises."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import AsyncJobs, ResultUnavailable, State
from asyncjobs.events import JobRetryScheduled, JobSucceeded
from tests.worker.kit import LIMIT_S, events_of, register, working

pytestmark = pytest.mark.anyio


class Unbound:
    """As a proxy outside of its context, or an object of a closed session."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("working outside of the context")

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Classless:
    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        raise SystemExit("no class")


class Odd(type):
    def __getattr__(cls, name: str) -> Any:
        raise RuntimeError("no attributes")


class OddKind(metaclass=Odd):
    pass


RESULTS: dict[str, Any] = {
    "attribute": Unbound,
    "inside": lambda: {"rows": [1, Unbound()]},
    "key": lambda: {Unbound(): 1},
    "class": Classless,
    "metaclass": OddKind,
}
runs: list[str] = []


async def returns(kind: str) -> Any:
    runs.append(kind)
    return RESULTS[kind]()


@pytest.mark.parametrize("kind_of_result", RESULTS)
async def test_a_result_that_cannot_be_read_is_unavailable(
    app: AsyncJobs, kind_of_result: str
) -> None:
    runs.clear()
    job = register(app, returns)
    succeeded, retried = events_of(app, JobSucceeded), events_of(app, JobRetryScheduled)
    async with working(app):
        handle = await job.enqueue(kind_of_result)
        with pytest.raises(ResultUnavailable, match="result of"):
            await handle.result(LIMIT_S)
        assert await handle.status() is State.SUCCEEDED
    assert runs == [kind_of_result]
    assert (len(succeeded), len(retried)) == (1, 0)
