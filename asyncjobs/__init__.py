"""asyncjobs: run async functions as jobs, at least once, in worker processes.

These names are public, and so are those of `asyncjobs.events` (for `app.on`),
`asyncjobs.testing` and `asyncjobs.compat.celery`. Everything else may change between releases.
"""

from __future__ import annotations

from importlib import metadata as _metadata
from typing import TYPE_CHECKING, Any

from asyncjobs.app import AsyncJobs
from asyncjobs.client.flow_handle import FlowHandle, NodeHandle
from asyncjobs.client.flows import Flows
from asyncjobs.client.job_batch import JobBatch
from asyncjobs.client.limits import LimitInfo, Limits
from asyncjobs.client.schedules import Schedules
from asyncjobs.client.ticks import Backfill
from asyncjobs.errors import (
    Abort,
    Aborted,
    ArgumentsError,
    AsyncJobsError,
    BatchError,
    ConfigError,
    Discard,
    DrainTimeout,
    EncodeError,
    EventTimeout,
    FlowCancelled,
    FlowFailed,
    FlowNotFound,
    JobCancelled,
    JobDiscarded,
    JobFailed,
    JobNotFound,
    JobsDied,
    JobSignal,
    JobsLeft,
    LimitLost,
    LimitTimeout,
    MemoryLimit,
    MissingCapability,
    NotBound,
    NotOpen,
    PayloadTooLarge,
    ProcessDied,
    RateLimited,
    RegistrationError,
    ResourceError,
    ResultError,
    ResultMissing,
    ResultsDisabled,
    ResultTimeout,
    ResultUnavailable,
    Retry,
    RowMissing,
    ScheduleNotFound,
    Snooze,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UnfitArguments,
    UniqueConflict,
    UnsupportedLayout,
    UsageError,
)
from asyncjobs.jobs.acting import ActionVerdict
from asyncjobs.jobs.attempt import JobAttempt
from asyncjobs.jobs.batches import BatchContext
from asyncjobs.jobs.context import INJECTED, JobContext, current_job
from asyncjobs.jobs.dependency import Depends
from asyncjobs.jobs.ended import JobEnd
from asyncjobs.jobs.enqueue_call import EnqueueCall, EnqueueMiddleware, Send
from asyncjobs.jobs.flow_context import FlowContext
from asyncjobs.jobs.flow_info import FlowInfo, NodeInfo
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.hooks import AttemptMiddleware, Hooked
from asyncjobs.jobs.info import JobError, JobInfo, Progress
from asyncjobs.jobs.middleware import CallNext
from asyncjobs.jobs.node import PREVIOUS, Node
from asyncjobs.jobs.overview import Jobs
from asyncjobs.jobs.past import EndedJob, FunctionFigures, History, Quantiles
from asyncjobs.jobs.ref import Ref, by_id
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.jobs.rescue import Succeed
from asyncjobs.jobs.rows import JobRow, JobRows
from asyncjobs.jobs.schedule import Schedule
from asyncjobs.jobs.step_info import StepInfo
from asyncjobs.jobs.steps import Step
from asyncjobs.jobs.tick import FromTick
from asyncjobs.jobs.workflow import Flow, Workflow, chain, chord, group
from asyncjobs.model.clock import Seconds
from asyncjobs.model.job import Priority, State
from asyncjobs.model.refs import JobRef
from asyncjobs.options.batch import Batch
from asyncjobs.options.routes import QueueBy
from asyncjobs.policy.backoff import constant, exponential, polynomial
from asyncjobs.policy.limits import Concurrency, Fair, RateLimit
from asyncjobs.policy.redaction import Secret
from asyncjobs.policy.retry import RetryPolicy
from asyncjobs.policy.unique import Debounce, Throttle, Unique
from asyncjobs.store.flows import FlowState

if TYPE_CHECKING:
    from asyncjobs.worker.report import WorkerReport
    from asyncjobs.worker.worker import Worker

__all__ = [
    "INJECTED",
    "PREVIOUS",
    "Abort",
    "Aborted",
    "ActionVerdict",
    "ArgumentsError",
    "AsyncJobs",
    "AsyncJobsError",
    "AttemptMiddleware",
    "Backfill",
    "Batch",
    "BatchContext",
    "BatchError",
    "CallNext",
    "Concurrency",
    "ConfigError",
    "Debounce",
    "Depends",
    "Discard",
    "DrainTimeout",
    "EncodeError",
    "EndedJob",
    "EnqueueCall",
    "EnqueueMiddleware",
    "EventTimeout",
    "Fair",
    "Flow",
    "FlowCancelled",
    "FlowContext",
    "FlowFailed",
    "FlowHandle",
    "FlowInfo",
    "FlowNotFound",
    "FlowState",
    "Flows",
    "FromTick",
    "FunctionFigures",
    "History",
    "Hooked",
    "JobAttempt",
    "JobBatch",
    "JobCall",
    "JobCancelled",
    "JobContext",
    "JobDiscarded",
    "JobEnd",
    "JobError",
    "JobFailed",
    "JobFunction",
    "JobHandle",
    "JobInfo",
    "JobNotFound",
    "JobRef",
    "JobRegistry",
    "JobRow",
    "JobRows",
    "JobSignal",
    "Jobs",
    "JobsDied",
    "JobsLeft",
    "LimitInfo",
    "LimitLost",
    "LimitTimeout",
    "Limits",
    "MemoryLimit",
    "MissingCapability",
    "Node",
    "NodeHandle",
    "NodeInfo",
    "NotBound",
    "NotOpen",
    "PayloadTooLarge",
    "Priority",
    "ProcessDied",
    "Progress",
    "Quantiles",
    "QueueBy",
    "RateLimit",
    "RateLimited",
    "Ref",
    "RegistrationError",
    "ResourceError",
    "ResultError",
    "ResultMissing",
    "ResultTimeout",
    "ResultUnavailable",
    "ResultsDisabled",
    "Retry",
    "RetryPolicy",
    "RowMissing",
    "Schedule",
    "ScheduleNotFound",
    "Schedules",
    "Seconds",
    "Secret",
    "Send",
    "Snooze",
    "State",
    "Step",
    "StepInfo",
    "StoreError",
    "StoreFull",
    "StoreUnavailable",
    "Succeed",
    "Throttle",
    "UnfitArguments",
    "Unique",
    "UniqueConflict",
    "UnsupportedLayout",
    "UsageError",
    "Worker",
    "WorkerReport",
    "Workflow",
    "__version__",
    "by_id",
    "chain",
    "chord",
    "constant",
    "current_job",
    "exponential",
    "group",
    "polynomial",
]

try:
    __version__: str = _metadata.version("asyncjobs-framework")
except _metadata.PackageNotFoundError:
    __version__ = "0.0.0+unknown"


def __getattr__(name: str) -> Any:
    # A web process only enqueues, so the worker's modules are imported on first use.
    if name == "Worker":
        from asyncjobs.worker.worker import Worker

        return Worker
    if name == "WorkerReport":
        from asyncjobs.worker.report import WorkerReport

        return WorkerReport
    raise AttributeError(f"module 'asyncjobs' has no attribute {name!r}")
