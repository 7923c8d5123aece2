"""`app.flows`: starting flows, and finding those that are stored."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final, TypeVar

from asyncjobs.client.client import Client
from asyncjobs.client.flow_handle import FlowHandle
from asyncjobs.client.flow_jobs import FlowDraft, FlowSpec, check_context
from asyncjobs.client.flow_storing import made_jobs, store_flow
from asyncjobs.client.job_batch import JobBatch, callbacks_of
from asyncjobs.client.sender import Sender
from asyncjobs.errors import ConfigError, MissingCapability, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.drawing import Drawing
from asyncjobs.jobs.flow_info import FlowInfo, flow_info
from asyncjobs.jobs.function import JobCall
from asyncjobs.jobs.workflow import Item, Workflow
from asyncjobs.model.clock import Seconds, new_id, seconds
from asyncjobs.options.checks import check_job_id, check_queue_name
from asyncjobs.store.flows import FlowRef, FlowState, NewFlow
from asyncjobs.store.seam import Backend

__all__ = ["KEEP_S", "Flows", "check_flows"]

R = TypeVar("R")

KEEP_S: Final = 86_400.0
MOST_NAME: Final = 200
STEP: Final = 1_000
"""Jobs that are made in one go. Then the event loop has its turn."""


class Flows:
    """The flows of an app. Made with it, as `app.flows`.

    Each method raises NotOpen, StoreError, and MissingCapability for a store without flows.
    """

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def start(
        self,
        work: Item[R],
        *,
        name: str = "",
        unique: bool = False,
        queue: str | None = None,
        keep: Seconds = KEEP_S,
        context: dict[str, Any] | None = None,
    ) -> FlowHandle[R]:
        """Store all jobs of a flow, then let it run: `await app.flows.start(chain(...))`.

        When it returns, the flow runs. If this process dies before that, nothing of it runs.

        work: a `chain`, `group`, `chord` or `Flow`, or one call.
        name: what people see, and how `list` finds it.
        unique: while a flow with this name has not ended, start none: the handle is that of the
        one that runs, and its `disposition` is `existing`.
        queue: the home of its record; by default the queue of its last node.
        keep: how long the flow and the results of its nodes are kept, from their ends on (seconds
        or timedelta).
        context: JSON values for all jobs of the flow, as `ctx.flow.context`; at most 4 KiB.

        Raises UsageError naming the node for a flow that cannot run, and ConfigError for a wrong
        option, EncodeError, PayloadTooLarge, and Aborted if a middleware refuses one of the calls:
        all before anything is stored. StoreFull means that nothing runs. After StoreUnavailable it
        may run: start it again with a unique name.
        """
        client = self._sender.access.client
        return await self._start(client, work, name, unique, queue, keep, context)

    def start_sync(
        self,
        work: Item[R],
        *,
        name: str = "",
        unique: bool = False,
        queue: str | None = None,
        keep: Seconds = KEEP_S,
        context: dict[str, Any] | None = None,
    ) -> FlowHandle[R]:
        """`start` for threads and sync views; it blocks. Raises like it, and UsageError on a
        running event loop."""
        way = self._sender.access.from_thread(
            "flows.start_sync() would block the event loop that runs here; write await "
            "app.flows.start(...)"
        )
        return way.call_from_thread(
            lambda client: self._start(client, work, name, unique, queue, keep, context),
            "flows.start_sync()",
        )

    def batch(
        self,
        name: str = "",
        *,
        on_success: JobCall[Any] | None = None,
        on_complete: JobCall[Any] | None = None,
        on_first_failure: JobCall[Any] | None = None,
        queue: str | None = None,
        keep: Seconds = KEEP_S,
        context: dict[str, Any] | None = None,
    ) -> JobBatch:
        """Jobs that are added one by one, and calls that follow when all have ended: see
        `JobBatch`. Stores nothing yet. `app.batch` is the same.

        on_success, on_complete, on_first_failure: calls, `f.bind(...)`; at least one.
        name, queue, keep, context: as those of `start`.

        Raises UsageError without a callback, and ConfigError for a wrong option.
        """
        _check_name(name, unique=False)
        given = {
            "on_success": on_success,
            "on_complete": on_complete,
            "on_first_failure": on_first_failure,
        }
        home = queue and check_queue_name(queue)
        values = check_context(context)
        callbacks = callbacks_of(given)
        return JobBatch(self._sender, name, callbacks, home, _keep_ms(keep), values, new_id())

    def get(self, id: str, queue: str | None = None) -> FlowHandle[Any]:
        """The handle of a flow by its public id, `queue/id`, or by its id and its home. Asks no
        store. Raises ConfigError for what is none."""
        return FlowHandle(self._sender.reader, read_flow_id(id, queue))

    async def list(
        self,
        queue: str | None = None,
        *,
        states: Collection[FlowState | str] = (),
        limit: int = 100,
    ) -> list[FlowInfo]:
        """The newest flows first, of this home queue or of all queues.

        states: only those; none: all of them. limit: at most so many.
        """
        backend = check_flows(self._sender.access.client.backend)
        queues: Sequence[str] = await backend.inspect.queues.names()
        if queue is not None:
            queues = [check_queue_name(queue)]
        return await listed(backend, queues, check_states(states), limit)

    # -- storing a flow -------------------------------------------------------------------

    async def _start(
        self,
        client: Client,
        work: Item[R],
        name: str,
        unique: bool,
        queue: str | None,
        keep: Seconds,
        context: dict[str, Any] | None,
    ) -> FlowHandle[R]:
        backend = check_flows(client.backend)
        if not isinstance(work, JobCall | Workflow):
            raise UsageError(
                f"flows.start() takes a chain, a group, a chord or a Flow, not {shown(work)}"
            )
        _check_name(name, unique=unique)
        keep_ms = _keep_ms(keep)
        drawing = Drawing.of(work)
        # rule:40 a flow without a job, which would never end, is refused
        if not drawing.nodes:
            raise UsageError(
                f"{work!r} has no job to run; add one, such as the callback of a chord"
            )
        home = queue and check_queue_name(queue)
        spec = FlowSpec(FlowRef(home or "", new_id()), name, keep_ms, check_context(context))
        raw = await made_jobs(self._sender, backend, drawing, spec)
        # Near its last node, whose end is then recorded in the same step.
        if home is None:
            spec = spec._replace(flow=FlowRef(raw[drawing.outlet.ends[-1]].queue, spec.flow.id))
        draft = FlowDraft(drawing, spec, raw)
        new = NewFlow(spec.flow, name, len(draft), keep_ms, draft.definition(), unique)
        holder = await backend.flows.open(new)
        reader = self._sender.reader
        # rule:40 a flow whose unique name is taken stores no job
        if holder is not None:
            return FlowHandle(reader, holder, disposition="existing")
        await store_flow(client, draft)
        return FlowHandle(reader, spec.flow, disposition="new", names=drawing.name_of)


def read_flow_id(id: str, queue: str | None = None) -> FlowRef:
    """Raises ConfigError for what is no id of a flow."""
    home, slash, own = id.partition("/")
    if queue is not None:
        return FlowRef(
            check_queue_name(queue), check_job_id(own if slash and home == queue else id)
        )
    if not slash:
        raise ConfigError(
            f"id={shown(id)} is not the public id of a flow; write queue/id, or give queue="
        )
    return FlowRef(check_queue_name(home), check_job_id(own))


def check_flows(backend: Backend) -> Backend:
    """The store, if it keeps flows. Raises MissingCapability."""
    if not backend.capabilities.flows:
        raise MissingCapability(
            f"the store at {backend.address} has no capability 'flows', which app.flows needs: use "
            "a store that has it"
        )
    return backend


def check_states(states: Collection[FlowState | str]) -> frozenset[FlowState]:
    try:
        return frozenset(FlowState(state) for state in states)
    except ValueError:
        known = ", ".join(state.value for state in FlowState)
        raise ConfigError(f"states={sorted(states)} of flows: use {known}") from None


async def listed(
    backend: Backend, queues: Sequence[str], states: frozenset[FlowState], limit: int
) -> list[FlowInfo]:
    """The newest flows of these queues."""
    found: list[FlowInfo] = []
    # Each queue may have all of the newest ones.
    for queue in queues:
        after: str | None = None
        own = 0
        while own < limit:
            page = await backend.flows.page(queue, states, after, min(limit - own, STEP))
            found += map(flow_info, page.flows)
            own += len(page.flows)
            after = page.after
            if after is None:
                break
    return sorted(found, key=lambda info: info.opened_at, reverse=True)[:limit]


def _keep_ms(keep: Seconds) -> int:
    keep_ms = round(seconds(keep, field="keep") * 1000)
    # Shorter than this the results of the first nodes would go before the last ones start.
    if keep_ms < 1_000:
        raise ConfigError(f"keep={shown(keep)} of a flow must be a second or more")
    return keep_ms


def _check_name(name: str, *, unique: bool) -> None:
    if not isinstance(name, str) or len(name) > MOST_NAME or not name.isprintable():
        raise ConfigError(
            f"name={shown(name)} of a flow must be a text of at most {MOST_NAME} printable "
            "characters"
        )
    if unique and not name:
        raise ConfigError("unique=True of a flow needs a name=: a flow is unique by its name")
