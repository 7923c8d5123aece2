"""Handles of jobs and flows, with the names of Celery's AsyncResult."""

from __future__ import annotations

from typing import Any, Final, Generic, Literal, TypeVar, overload

from asyncjobs.client.flow_handle import FlowHandle
from asyncjobs.errors import JobCancelled, JobDiscarded, JobFailed, ResultError, UsageError
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.info import JobInfo
from asyncjobs.model.clock import Seconds
from asyncjobs.model.job import State
from asyncjobs.store.flows import FlowState

__all__ = ["CeleryFlowResult", "CeleryResult"]

R_co = TypeVar("R_co", covariant=True)

_STATES: Final = {
    State.READY: "PENDING",
    State.HELD: "PENDING",
    State.SCHEDULED: "PENDING",
    State.RUNNING: "STARTED",
    State.SUCCEEDED: "SUCCESS",
    State.DEAD: "FAILURE",
    State.DISCARDED: "IGNORED",
    State.CANCELLED: "REVOKED",
}
_ENDS: Final = (JobFailed, JobDiscarded, JobCancelled)
"""What `get(propagate=False)` returns instead of raising it."""


class CeleryResult(Generic[R_co]):
    """One job, with the names of Celery's AsyncResult.

    All methods block, and raise UsageError on a running event loop: use `handle` there. A job that
    nobody knows raises JobNotFound, where Celery would say PENDING for ever.
    """

    __slots__ = ("handle",)

    def __init__(self, handle: JobHandle[R_co]) -> None:
        self.handle = handle

    @property
    def id(self) -> str:
        """The job's id, unique in its queue."""
        return self.handle.id

    @property
    def task_id(self) -> str:
        """The same as `id`."""
        return self.handle.id

    @overload
    def get(self, timeout: Seconds | None = None, propagate: Literal[True] = True) -> R_co: ...
    @overload
    def get(self, timeout: Seconds | None = None, propagate: bool = True) -> R_co | ResultError: ...
    def get(self, timeout: Seconds | None = None, propagate: bool = True) -> R_co | ResultError:
        """Wait for the end of the job, and return its value.

        timeout: wait at most this long; then raises ResultTimeout.
        propagate: False returns JobFailed, JobDiscarded or JobCancelled instead of raising it.

        Raises like `JobHandle.result_sync`.
        """
        try:
            return self.handle.result_sync(timeout)
        except _ENDS as error:
            if propagate:
                raise
            return error

    @property
    def state(self) -> str:
        """Celery's word for the state: PENDING, STARTED, RETRY, SUCCESS, FAILURE, IGNORED (it was
        discarded) or REVOKED (it was cancelled, or had expired)."""
        info = self.handle.info_sync()
        if info.state is State.SCHEDULED and (info.attempt or 1) > 1:
            return "RETRY"
        # Celery revokes what has expired. What a job has discarded by itself it calls ignored.
        if info.state is State.DISCARDED and info.reason == "expired":
            return "REVOKED"
        return _STATES[info.state]

    @property
    def status(self) -> str:
        """The same as `state`."""
        return self.state

    def ready(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self.handle.status_sync().is_final

    def successful(self) -> bool:
        """Whether the job has succeeded."""
        return self.handle.status_sync() is State.SUCCEEDED

    def failed(self) -> bool:
        """Whether the job is dead."""
        return self.handle.status_sync() is State.DEAD

    @property
    def result(self) -> Any:
        """The value of a job that has succeeded, the error of one that has ended otherwise; None
        before its end."""
        if not self.ready():
            return None
        return self.get(propagate=False)

    @property
    def info(self) -> JobInfo:
        """What the store knows of the job."""
        return self.handle.info_sync()

    def revoke(self, *, terminate: bool = False) -> bool:
        """Let the job not run. Returns whether that was still possible.

        terminate: also stop a job that runs. Without it, as in Celery, one that runs goes on.
        A job that starts in this very moment may be stopped all the same.
        """
        # rule:41 a job that runs goes on, unless its end is asked for
        if not terminate and self.handle.status_sync() is State.RUNNING:
            return False
        return self.handle.cancel_sync()

    def __getattr__(self, name: str) -> Any:
        # An AttributeError, so that hasattr() and tools that look at objects go on.
        instead = _INSTEAD.get(name)
        if instead is not None:
            raise AttributeError(f"{name} of a result is Celery's; {instead}", name=name, obj=self)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CeleryResult) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __repr__(self) -> str:
        return f"<CeleryResult {self.id}>"


class CeleryFlowResult(Generic[R_co]):
    """A `chain`, `group` or `chord` that was started, with the names of Celery's AsyncResult.

    All methods block, and raise UsageError on a running event loop: use `handle` there.
    """

    __slots__ = ("handle",)

    def __init__(self, handle: FlowHandle[R_co]) -> None:
        self.handle = handle

    @property
    def id(self) -> str:
        """The public id of the flow, `queue/id`."""
        return self.handle.id

    def get(self, timeout: Seconds | None = None) -> R_co:
        """Wait for the end of the flow, and return its result: of a chain that of its last task, of
        a group the list, of a chord that of its callback. Raises like `FlowHandle.result_sync`."""
        return self.handle.result_sync(timeout)

    @property
    def state(self) -> str:
        """Celery's word for the state: STARTED, SUCCESS, FAILURE or REVOKED."""
        return _FLOW_STATES.get(self.handle.status_sync(), "STARTED")

    def ready(self) -> bool:
        """Whether the flow has ended, in whatever way."""
        return self.state != "STARTED"

    def successful(self) -> bool:
        """Whether the flow has succeeded."""
        return self.state == "SUCCESS"

    def failed(self) -> bool:
        """Whether the flow has failed."""
        return self.state == "FAILURE"

    def revoke(self, *, terminate: bool = False) -> bool:
        """Cancel all of the flow that has not ended; with `terminate=True` only, since those that
        run are asked to stop. Raises UsageError without it."""
        if not terminate:
            raise UsageError(
                "revoke() of a flow also stops those of its jobs that run; write "
                "revoke(terminate=True)"
            )
        return self.handle.cancel_sync()

    def __repr__(self) -> str:
        return f"<CeleryFlowResult {self.id}>"


_FLOW_STATES: Final = {
    FlowState.SUCCEEDED: "SUCCESS",
    FlowState.FAILED: "FAILURE",
    FlowState.CANCELLED: "REVOKED",
}
_INSTEAD: Final = {
    "children": "a flow knows its nodes: await app.flows.get(id).nodes()",
    "parent": "a flow knows its nodes: await app.flows.get(id).nodes()",
    "collect": "a flow has one result: get()",
    "iterdeps": "a flow knows its nodes: await app.flows.get(id).nodes()",
    "get_leaf": "a flow has one result: get()",
    "join": "call get() of each result, or start a group and get() its list",
    "forget": "results go by themselves after result_ttl",
    "then": "await handle.result()",
    "wait": "write get(timeout=...)",
    "date_done": "write info.finished_at",
    "traceback": "write info.error.traceback",
    "retries": "write info.attempt",
    "name": "write info.name",
    "worker": "write info.worker",
    "args": "write info.args",
    "kwargs": "write info.kwargs",
    "queue": "write handle.queue",
    "maybe_throw": "write get()",
    "maybe_reraise": "write get()",
}
