"""Takes calls through the middleware of enqueues. Nothing here runs for functions without any."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeAlias

from asyncjobs.errors import Abort, Aborted, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.enqueue_call import EnqueueCall, EnqueueMiddleware
from asyncjobs.jobs.handle import JobHandle

__all__ = ["Deliver", "Passing"]

Deliver: TypeAlias = Callable[[EnqueueCall], Coroutine[Any, Any, JobHandle[Any]]]
"""Stores a call, and returns the handle of its job."""


class Passing:
    """One call on its way through `chain`, the outermost first, to `deliver`."""

    def __init__(self, chain: Sequence[EnqueueMiddleware], deliver: Deliver) -> None:
        self._chain = chain
        self._deliver = deliver
        self._stored: JobHandle[Any] | None = None

    async def run(self, call: EnqueueCall) -> JobHandle[Any]:
        """The handle that the outermost middleware returns.

        Raises Aborted if one refuses the call by `Abort`, and what they or `deliver` raise.
        """
        try:
            return await self._pass(0, call)
        # Not raised on as it is: in a job that enqueues another one, it would discard that job.
        # rule:16 a refused enqueue ends no job that has made it
        except Abort as abort:
            if self._stored is not None:
                raise UsageError(
                    f"{call.name}: an enqueue middleware has raised Abort after send(), and the "
                    f"job {self._stored.ref} is stored; raise it before send(), or cancel the job"
                ) from abort
            raise Aborted(
                f"{call.name}: a middleware has refused to enqueue it: {abort.reason}",
                reason=abort.reason,
            ) from abort

    async def _pass(self, place: int, call: EnqueueCall) -> JobHandle[Any]:
        if place == len(self._chain):
            self._stored = await self._deliver(call)
            return self._stored
        middleware = self._chain[place]
        handle: JobHandle[Any] | None = None
        is_sent = False

        async def send(changed: EnqueueCall | None = None, /) -> JobHandle[Any]:
            nonlocal handle, is_sent
            # rule:16 a middleware stores a call once at the most
            if is_sent:
                raise UsageError(
                    f"{call.name}: an enqueue middleware has called send() twice; enqueue another "
                    "job by f.enqueue(...)"
                )
            is_sent = True
            handle = await self._pass(place + 1, _changed(call, changed))
            return handle

        answer = await middleware(call, send)
        if isinstance(answer, JobHandle):
            return answer
        # Who forgets to return the handle has stored the job all the same.
        if answer is None and handle is not None:
            return handle
        raise UsageError(
            f"{call.name}: the enqueue middleware {shown(middleware)} returned {shown(answer)}, "
            "not the handle of a job; return await send(), or raise Abort(reason) to refuse it"
        )


def _changed(call: EnqueueCall, changed: Any) -> EnqueueCall:
    if changed is None:
        return call
    if not isinstance(changed, EnqueueCall) or changed.name != call.name:
        raise UsageError(
            f"{call.name}: send() takes no argument or call.replace(...), not {shown(changed)}"
        )
    return changed
