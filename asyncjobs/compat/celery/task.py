"""`CeleryTask`: a job function with the names of Celery's tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, ParamSpec, TypeVar, Unpack

from asyncjobs.compat.celery.canvas import Signature, send
from asyncjobs.compat.celery.options import ApplyOptions, Priorities
from asyncjobs.compat.celery.result import CeleryResult
from asyncjobs.errors import UsageError
from asyncjobs.jobs.context import JobContext
from asyncjobs.jobs.function import JobFunction

__all__ = ["CeleryTask", "celery_like"]

P = ParamSpec("P")
R_co = TypeVar("R_co", covariant=True)

_INSTEAD: Final = {
    "apply": "call it: f(...), or perform(f, ...) in tests",
    "run": "call it: f(...)",
    "map": "write [f.delay(each) for each in ...], or one job with steps",
    "starmap": "write [f.delay(*each) for each in ...], or one job with steps",
    "chunks": "write one job with steps",
    "retry": "raise asyncjobs.Retry(reason, delay=...)",
    "update_state": "write ctx.progress(done, total, note)",
    "request": "write current_job()",
    "replace": "let a flow grow while it runs",
    "app": "import the app",
    "backend": "results are in the store of the jobs",
    "max_retries": "write retry=RetryPolicy(max_attempts=...)",
    "AsyncResult": "write app.AsyncResult(id)",
}


class CeleryTask(Generic[P, R_co]):
    """A job function with the names of Celery's tasks. `job` is the job function itself.

    A call, `f(...)`, runs it here and makes no job. That of an async function is awaited.
    """

    __name__: str

    def __init__(self, job: JobFunction[P, R_co], priorities: Priorities | None = None) -> None:
        """`priorities`: what numbers of `priority=` mean; None refuses them."""
        self.job = job
        self.priorities = priorities
        # Tools that look at modules, such as documentation, see the function.
        self.__name__ = job.__name__
        self.__qualname__ = job.__qualname__
        self.__module__ = job.__module__
        self.__doc__ = job.__doc__

    @property
    def name(self) -> str:
        """The name that is stored with its jobs."""
        return self.job.name

    def delay(self, /, *args: P.args, **kwargs: P.kwargs) -> CeleryResult[R_co]:
        """Store a job. Blocks until the store has it.

        Raises like `JobFunction.enqueue_sync`: on a running event loop it raises UsageError, and
        `await f.job.enqueue(...)` is the way.
        """
        return CeleryResult(self.job.enqueue_sync(*args, **kwargs))

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ApplyOptions],
    ) -> CeleryResult[R_co]:
        """Store a job with these arguments and options.

        countdown: run it this many seconds later.
        eta: run it at this time, an aware datetime.
        expires: how long after the enqueue, or until when, an attempt may start.
        queue: another queue.
        priority: `critical`, `high`, `normal` or `low`; numbers if the app knows what they mean.
        task_id: the job's id. A second enqueue with it stores nothing while it is known.
        ignore_result: keep no result.
        Further options are those of `JobFunction.options`.

        Raises ConfigError for Celery's options that mean nothing here, and like `delay`.
        """
        return send(self.job, self.priorities, args, kwargs, options)

    def s(self, *args: Any, **kwargs: Any) -> Signature[R_co]:
        """A signature: this task with these arguments, for later. In a chain, the result of what
        comes before it is put in front of them."""
        return Signature(self.job, args, kwargs, priorities=self.priorities)

    def si(self, *args: Any, **kwargs: Any) -> Signature[R_co]:
        """The same, without the result of what comes before it."""
        return Signature(self.job, args, kwargs, immutable=True, priorities=self.priorities)

    def signature(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Unpack[ApplyOptions],
    ) -> Signature[R_co]:
        """A signature with options."""
        return Signature(
            self.job,
            args or (),
            kwargs,
            options=options,
            immutable=immutable,
            priorities=self.priorities,
        )

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run it here and now. An async function returns a coroutine, as in any other code.

        Raises UsageError for a function with dependencies: `await f.job(...)` makes them.
        """
        # Not through the job function: a call of Celery's is sync where the function is.
        if self.job.is_async:
            return self.job(*args, **kwargs)
        if self.job.binding.needs:
            raise UsageError(f"{self.name} has dependencies; write await {self.__name__}.job(...)")
        given: dict[str, Any] = dict(kwargs)
        if self.job.injected:
            local = JobContext.local(self.name, queue=self.job.settings.queue)
            given.setdefault(self.job.injected, local)
        return self.job.function(*args, **given)

    def __getattr__(self, name: str) -> Any:
        # An AttributeError, so that hasattr() and tools that look at objects go on.
        instead = _INSTEAD.get(name)
        if instead is not None:
            raise AttributeError(f"{name} of a task is Celery's; {instead}", name=name, obj=self)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
        )

    def __repr__(self) -> str:
        return f"<CeleryTask {self.name}>"


def celery_like(
    job: JobFunction[P, R_co], *, priorities: Priorities | None = None
) -> CeleryTask[P, R_co]:
    """A job function with Celery's names: `mail = celery_like(send_mail)`; `mail.delay(...)`.

    For job functions that are written already, and callers that are not. The options of the job
    function stay as they are.
    """
    return CeleryTask(job, priorities)
