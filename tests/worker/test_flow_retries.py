"""A retry of a flow to which the store does not answer any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from asyncjobs import AsyncJobs, StoreUnavailable
from asyncjobs.errors import UsageError
from asyncjobs.jobs.workflow import chain
from asyncjobs.store.flows import FlowState
from tests.worker.flow_jobs import FlowJobs, broken, calls
from tests.worker.kit import LIMIT_S, working

pytestmark = pytest.mark.anyio

Method = Callable[..., Awaitable[Any]]


class Silence:
    """The call of this name takes effect, and neither it nor a later one is answered."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._has_begun = False

    def around(self, method: Method, name: str) -> Method:
        async def call(*args: Any) -> Any:
            if self._has_begun:
                raise StoreUnavailable("no answer")
            answer = await method(*args)
            if name == self._name:
                self._has_begun = True
                raise StoreUnavailable("no answer")
            return answer

        return call


@pytest.mark.parametrize("where", ["reopen", "add_nodes", "enqueue", "start"])
async def test_a_retry_without_an_answer_is_made_again(
    app: AsyncJobs, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    jobs = FlowJobs(app)
    broken.add(1)
    async with working(app):
        handle = await app.flows.start(chain(jobs.fragile.bind(1), jobs.number.bind(2), jobs.seen))
        assert await handle.wait(LIMIT_S) is FlowState.FAILED
        broken.clear()
        with monkeypatch.context() as patch:
            silence = Silence(where)
            store: Any = type(app.backend)
            flows: Any = type(app.backend.flows)
            for target, names in (
                (store, ("enqueue", "cancel")),
                (flows, ("reopen", "add_nodes", "nodes", "start")),
            ):
                for name in names:
                    patch.setattr(target, name, silence.around(getattr(target, name), name))
            with pytest.raises(StoreUnavailable, match="no answer") as raised:
                await handle.retry()
        if where != "start":
            # Nothing of it runs, and the next retry says what to do.
            assert await handle.status() is FlowState.OPENED
            assert calls("fragile") == [(1,)]
            with pytest.raises(UsageError, match="cancel the flow, and retry it then"):
                await handle.retry()
            assert await handle.cancel()
            assert await handle.wait(LIMIT_S) is FlowState.CANCELLED
            assert await handle.retry() == 3
        if where in ("add_nodes", "enqueue"):
            (note,) = raised.value.__notes__
            assert "none of its jobs runs. Cancel it" in note
        assert await handle.result(LIMIT_S) == 2
        assert (calls("fragile"), calls("seen")) == ([(1,), (1,)], [(2,)])
