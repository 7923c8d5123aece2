"""The handle of a flow: its identity, and what one may ask of it and do with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Generic, Literal, TypeVar

from asyncjobs.client import flow_acts
from asyncjobs.client.flow_retry import Which, retry
from asyncjobs.errors import (
    FlowCancelled,
    FlowFailed,
    JobNotFound,
    ResultTimeout,
    ResultUnavailable,
    UsageError,
)
from asyncjobs.jobs.flow_info import FlowInfo, NodeInfo, flow_info
from asyncjobs.jobs.handle import JobHandle, Reader
from asyncjobs.jobs.info import outcome_of
from asyncjobs.jobs.node import Node
from asyncjobs.model.backoff import Pauses
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.flow_definition import FlowDefinition, names_in
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.flows import MOST_NODES, FlowRecord, FlowRef, FlowState
from asyncjobs.store.seam import Backend

__all__ = ["FlowHandle", "NodeHandle"]

R_co = TypeVar("R_co", covariant=True)
T = TypeVar("T")

FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0
"""Between two looks at a flow whose last nodes have ended, or have none."""
WAIT_STEP_S: Final = 5.0
"""How long one wait for a node lasts before the flow itself is looked at."""
SHOWN: Final = 5
"""How many failed nodes an error names."""


class NodeHandle:
    """One node of a flow, by its name: `handle.node("page")`. Asks the store when it is asked."""

    __slots__ = ("_flow", "name")

    def __init__(self, flow: FlowHandle[Any], name: str) -> None:
        self._flow = flow
        self.name = name

    async def job(self) -> JobHandle[Any]:
        """The handle of its job. Raises UsageError if the flow has no such node."""
        return await self._flow._job(self.name)

    async def status(self) -> State:
        """The state of its job. Raises UsageError if the flow has no such node."""
        for node in await self._flow.nodes():
            if node.name == self.name:
                return node.state
        raise UsageError(f"flow {self._flow.id} has no node {self.name!r}; see handle.nodes()")

    async def result(self, timeout: Seconds | None = None) -> Any:
        """Wait for its end, and return its value. Raises like `JobHandle.result`."""
        return await (await self.job()).result(timeout)

    async def why(self) -> str:
        """What it waits for, in words. See `FlowHandle.why`."""
        return await self._flow.why(self.name)

    def __repr__(self) -> str:
        return f"<NodeHandle {self.name!r} of {self._flow.id}>"


class FlowHandle(Generic[R_co]):
    """One flow. Made by `app.flows.start`, `app.flows.get` and `app.flows.list`.

    Holds no copy of the flow: each method asks the store. All methods raise NotOpen, StoreError,
    and FlowNotFound for a flow that was dropped.
    """

    __slots__ = ("_disposition", "_names", "_reader", "ref")

    def __init__(
        self,
        reader: Reader,
        ref: FlowRef,
        *,
        disposition: Literal["new", "existing"] | None = None,
        names: Callable[[Node[Any]], str] | None = None,
    ) -> None:
        self._reader = reader
        self.ref = ref
        """The queue that is its home, and its id there."""
        self._disposition: Literal["new", "existing"] | None = disposition
        self._names = names

    @property
    def id(self) -> str:
        """The public id, `queue/id`."""
        return str(self.ref)

    @property
    def disposition(self) -> Literal["new", "existing"] | None:
        """`new` if `start` has started it, `existing` if a flow with its unique name was running,
        and this is its handle. None if the handle was not made by `start`."""
        return self._disposition

    # -- looking at it --------------------------------------------------------------------

    async def status(self) -> FlowState:
        """Where the flow is now."""
        return (await self._record(self._reader.opened())).state

    def status_sync(self) -> FlowState:
        """`status` for threads; it blocks. Raises UsageError on a running event loop."""
        return self._reader.ask_from_thread(self._record, "status_sync()").state

    async def info(self) -> FlowInfo:
        """What the store knows of the flow now, with the number of its nodes by state."""
        return flow_info(await self._record(self._reader.opened()))

    async def nodes(self) -> list[NodeInfo]:
        """Its nodes with their states, in the order in which they were added."""
        backend = self._reader.opened()
        await self._record(backend)
        return await flow_acts.infos(backend, self.ref)

    def node(self, node: str | Node[Any]) -> NodeHandle:
        """One of its nodes, by its name, or as `flow.add` has returned it in this program. Asks no
        store."""
        if not isinstance(node, Node):
            return NodeHandle(self, node)
        if self._names is None:
            raise UsageError("this handle knows nodes by name only; give the name")
        return NodeHandle(self, self._names(node))

    async def why(self, node: str | Node[Any]) -> str:
        """What a node waits for, in words: other nodes, its time, a limit, a pause, a worker.

        Raises UsageError if the flow has no such node.
        """
        name = self.node(node).name
        return await flow_acts.why(self._reader.opened(), self.ref, name)

    # -- waiting for it -------------------------------------------------------------------

    async def wait(self, timeout: Seconds | None = None) -> FlowState:
        """Wait until the flow has ended; how it has ended.

        timeout: wait at most this long (seconds or timedelta). Raises ResultTimeout then; the flow
        goes on.
        """
        record = await self._wait(self._reader.opened(), _checked_s(timeout))
        return record.state

    async def result(self, timeout: Seconds | None = None) -> R_co:
        """Wait for the end of the flow, and return its result.

        It is that of the last item of a chain, the list of those of a group, and that of the
        callback of a chord. Of a `Flow` it is that of the node that nothing waits for; when there
        are several, a dict of their results by name.

        Raises FlowFailed and FlowCancelled if it has ended so, ResultTimeout after the time-out,
        and ResultUnavailable if a result could not be kept.
        """
        return await self._result(self._reader.opened(), _checked_s(timeout))

    def result_sync(self, timeout: Seconds | None = None) -> R_co:
        """`result` for threads and sync views. Raises like it, and UsageError on a running event
        loop, which it would block."""
        ask = partial(self._result, timeout_s=_checked_s(timeout))
        value: R_co = self._reader.ask_from_thread(ask, "result_sync()")
        return value

    async def _result(self, backend: Backend, timeout_s: float | None) -> R_co:
        record = await self._wait(backend, timeout_s)
        if record.state is not FlowState.SUCCEEDED:
            raise await self._failure(backend, record)
        definition = _definition(record)
        names = list(dict.fromkeys(names_in(definition.result)))
        refs = await flow_acts.refs_of(backend, self.ref, names)
        jobs = await flow_acts.jobs_of(backend, refs)
        # A value that does not fit its annotation raises here, with the name of its job.
        found = {
            name: self._value(name, ref, job)
            for name, ref, job in zip(names, refs, jobs, strict=True)
        }
        value: R_co = _put(definition.result, found)
        return value

    def _value(self, name: str, ref: JobRef, job: JobRecord | None) -> Any:
        if job is None:
            raise JobNotFound(f"node {name!r} of flow {self.id}: job {ref} has expired")
        if job.state is not State.SUCCEEDED:
            # The flow has succeeded, so this node was allowed to fail.
            return None
        outcome = outcome_of(job)
        if outcome is None:
            raise ResultUnavailable(
                f"node {name!r} of flow {self.id} succeeded, and its result is not there any more; "
                "results are kept for keep= after the end of their node"
            )
        if outcome.unavailable:
            raise ResultUnavailable(
                f"node {name!r} of flow {self.id} has no result: {outcome.unavailable}"
            )
        return self._reader.result_value(ref, outcome.name, outcome.value)

    async def _failure(self, backend: Backend, record: FlowRecord) -> Exception:
        # Nobody has to look which node it was.
        if record.state is FlowState.CANCELLED:
            return FlowCancelled(f"flow {self.id} was cancelled")
        nodes = await flow_acts.infos(backend, self.ref)
        failed = [node for node in nodes if node.state in (State.DEAD, State.DISCARDED)]
        texts: list[str] = []
        for node in failed[:SHOWN]:
            (job,) = await backend.get([node.job])
            outcome = None
            if job is not None:
                outcome = outcome_of(job)
            told = ""
            # The letter of an old failure may be gone. Its name says enough then.
            if outcome is not None:
                told = f": {outcome.summary or outcome.reason}"
            texts.append(f"{node.name} ({node.state}{told})")
        if len(failed) > SHOWN:
            texts.append(f"and {len(failed) - SHOWN:,} more")
        why = ", ".join(texts) or "nodes were cancelled"
        return FlowFailed(
            f"flow {self.id} has failed: {why}. See handle.nodes(), and handle.retry()",
            nodes=[node.name for node in failed],
        )

    async def _wait(self, backend: Backend, timeout_s: float | None) -> FlowRecord:
        """The record of the flow once it has ended. Raises ResultTimeout."""
        loop = asyncio.get_running_loop()
        ends_s = None
        if timeout_s is not None:
            ends_s = loop.time() + timeout_s
        pauses = Pauses(FIRST_PAUSE_S, LONGEST_PAUSE_S)
        while True:
            record = await self._record(backend)
            if record.state.is_final:
                return record
            left_s = WAIT_STEP_S
            if ends_s is not None:
                left_s = min(left_s, ends_s - loop.time())
                if left_s <= 0:
                    raise ResultTimeout(
                        f"flow {self.id} has not ended within {timeout_s:g} s: it is "
                        f"{record.state}; handle.nodes() shows its nodes, handle.why(node) tells "
                        "why one waits"
                    )
            # All nodes end before those that nothing waits for. So one wait is enough.
            living = await self._living_ends(backend, record)
            if living:
                await backend.wait_results(living, left_s)
            else:
                # Its last end is on its way from another queue, or an added node still runs.
                await asyncio.sleep(min(left_s, pauses.next_s()))

    async def _living_ends(self, backend: Backend, record: FlowRecord) -> list[JobRef]:
        ends = _definition(record).ends[:MOST_NODES]
        nodes = await backend.flows.look_up(self.ref, ends)
        return [node.job for node in nodes if node is not None and node.state is None][:1]

    # -- acting on it ---------------------------------------------------------------------

    async def cancel(self) -> bool:
        """Cancel all nodes that have not ended; those that run are asked to stop. Returns False if
        the flow has ended already."""
        return await self._cancel(self._reader.opened())

    def cancel_sync(self) -> bool:
        """`cancel` for threads; it blocks. Raises UsageError on a running event loop."""
        return self._reader.ask_from_thread(self._cancel, "cancel_sync()")

    async def _cancel(self, backend: Backend) -> bool:
        ttl_ms = self._reader.result_ttl_ms(None, None)
        return await flow_acts.cancel(backend, self.ref, ttl_ms)

    async def retry(self, which: Which = "failed", *, from_: str | Node[Any] | None = None) -> int:
        """Run nodes again; returns how many. The others keep their results.

        which: `failed`: those that have not succeeded, with all that was cancelled behind them.
        `all`: the whole flow.
        from_: instead, this node and all that wait for it.

        Each of them is a new job, with the arguments of the first one. They run when all are
        stored. After an error of the store none of them does: call it again; if the flow is left
        `opened`, cancel it first. Raises UsageError while the flow has not ended, for an unknown
        node, and for a node that cannot be made anew.
        """
        name = None
        if from_ is not None:
            name = self.node(from_).name
        return await retry(self._reader.opened(), self.ref, which, name)

    async def drop(self) -> bool:
        """Forget the flow, its nodes and their dead letters; False if it has not ended."""
        return await flow_acts.drop(self._reader.opened(), self.ref)

    # -- the store ------------------------------------------------------------------------

    async def _record(self, backend: Backend) -> FlowRecord:
        return await flow_acts.find(backend, self.ref)

    async def _job(self, name: str) -> JobHandle[Any]:
        (ref,) = await flow_acts.refs_of(self._reader.opened(), self.ref, [name])
        return JobHandle(self._reader, (ref,))

    def __repr__(self) -> str:
        return f"<FlowHandle {self.id}>"


def _definition(record: FlowRecord) -> FlowDefinition:
    try:
        return FlowDefinition.decode(record.definition)
    except BadRecord as error:
        raise ResultUnavailable(f"flow {record.ref} cannot be read: {error}") from error


def _put(result: Any, found: dict[str, Any]) -> Any:
    """The result of a flow, with the values of its nodes in place of their names."""
    if isinstance(result, dict):
        return {name: _put(each, found) for name, each in result.items()}
    if isinstance(result, list):
        return [_put(each, found) for each in result]
    if result is None:
        return None
    return found[result]


def _checked_s(timeout: Seconds | None) -> float | None:
    if timeout is None:
        return None
    return seconds(timeout, field="timeout")
