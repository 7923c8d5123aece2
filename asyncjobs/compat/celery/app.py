"""`Celery`: an app or a registry with the names of Celery's app; and `shared_task`."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import Any, Final, ParamSpec, Protocol, TypeVar, Unpack, overload

from asyncjobs.app import AsyncJobs
from asyncjobs.compat.celery.canvas import Signature
from asyncjobs.compat.celery.options import ApplyOptions, Priorities, TaskOptions, task_options
from asyncjobs.compat.celery.result import CeleryResult
from asyncjobs.compat.celery.task import CeleryTask
from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.registry import JobRegistry

__all__ = ["Celery", "shared_task", "shared_tasks"]

P = ParamSpec("P")
R = TypeVar("R")

_INSTEAD: Final = {
    "conf": "settings are arguments of AsyncJobs(...)",
    "config_from_object": "settings are arguments of AsyncJobs(...)",
    "autodiscover_tasks": "import the modules of the tasks in the module of the app",
    "control": "write app.jobs, app.queues and app.workers of AsyncJobs",
    "add_periodic_task": "write @jobs.cron(...) or @jobs.every(...)",
    "worker_main": "start asyncjobs worker",
    "on_after_configure": "write it in the module of the app",
    "on_after_finalize": "write it in the module of the app",
    "Task": "a job is a function; write dependencies and middleware",
    "tasks": "write jobs.registry.functions()",
    "GroupResult": "start a group and get() its list",
}


class Decorate(Protocol):
    """`@app.task(...)`: makes a task of a function."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CeleryTask[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> CeleryTask[P, R]: ...
    def __call__(self, function: Callable[..., Any], /) -> Any: ...


class Celery:
    """An app with the names of Celery's: `app = Celery(AsyncJobs())`. `jobs` is that app.

    priorities: what numbers of `priority=` mean, `FROM_REDIS` or `FROM_RABBITMQ`; without them a
    number raises ConfigError.
    """

    def __init__(
        self, jobs: AsyncJobs | JobRegistry, *, priorities: Priorities | None = None
    ) -> None:
        """Raises UsageError for anything but an AsyncJobs or a JobRegistry."""
        # Celery takes a name here, and code that was not changed yet would give one.
        if not isinstance(jobs, AsyncJobs | JobRegistry):
            raise UsageError(
                f"Celery() of asyncjobs takes an AsyncJobs or a JobRegistry, not {shown(jobs)}; "
                "write Celery(AsyncJobs(url))"
            )
        self.jobs = jobs
        self.priorities = priorities

    @overload
    def task(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> CeleryTask[P, R]: ...
    @overload
    def task(self, function: Callable[P, R], /) -> CeleryTask[P, R]: ...
    @overload
    def task(self, function: None = None, /, **options: Unpack[TaskOptions]) -> Decorate: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function as a job function: `@app.task`, or `@app.task(queue="mail")`.

        As in Celery, an error ends the job, and an attempt has no time-out: give `retry=` and
        `timeout=` for others. The options are those of `AsyncJobs.job`, and `ignore_result=`.

        Raises ConfigError for Celery's options that mean nothing here, and like `JobRegistry.job`.
        """
        # At once, so that a wrong option is an error in its own line.
        decorate = self.jobs.job(**task_options(options, self.priorities))

        def register(function: Callable[..., Any], /) -> CeleryTask[..., Any]:
            job: JobFunction[..., Any] = decorate(function)
            return CeleryTask(job, self.priorities)

        if function is None:
            return register
        return register(function)

    def send_task(
        self,
        name: str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ApplyOptions],
    ) -> CeleryResult[Any]:
        """Store a job by the name of its function. Raises UsageError for a name that no module of
        this process has registered, and like `CeleryTask.apply_async`."""
        return self._named(name).apply_async(args, kwargs, **options)

    def signature(
        self,
        name: str,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        *,
        immutable: bool = False,
        **options: Unpack[ApplyOptions],
    ) -> Signature[Any]:
        """A signature by the name of the function. Raises like `send_task`."""
        return self._named(name).signature(args, kwargs, immutable=immutable, **options)

    def AsyncResult(self, id: str, queue: str | None = None) -> CeleryResult[Any]:  # noqa: N802 - as in Celery
        """The result of a job by its id, or by its public id `queue/id`. Asks no store.

        Raises like `AsyncJobs.handle`, and UsageError if this is made of a registry.
        """
        if not isinstance(self.jobs, AsyncJobs):
            raise UsageError("a JobRegistry knows no store; ask Celery(app) for AsyncResult(id)")
        return CeleryResult(self.jobs.handle(id, queue))

    def _named(self, name: str) -> CeleryTask[..., Any]:
        registry = self.jobs
        if isinstance(registry, AsyncJobs):
            registry = registry.registry
        function = registry.find(name)
        if function is None:
            near = registry.near(name)
            advice = "import the module that has it"
            if near is not None:
                advice = f"did you mean {near!r}?"
            raise UsageError(f"there is no job function {shown(name)}; {advice}")
        return CeleryTask(function, self.priorities)

    def __getattr__(self, name: str) -> Any:
        # An AttributeError, so that hasattr() and tools that look at objects go on.
        instead = _INSTEAD.get(name)
        if instead is not None:
            raise AttributeError(f"{name} of the app is Celery's; {instead}", name=name, obj=self)
        raise AttributeError(
            f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self
        )

    def __repr__(self) -> str:
        return f"<Celery of {self.jobs!r}>"


shared_tasks: Final = JobRegistry()
"""The registry of `shared_task`. One app of the process includes it: `jobs.include(shared_tasks)`.
"""
shared_task: Final = Celery(shared_tasks).task
"""`@shared_task`: a task of `shared_tasks`, for modules that do not import the app."""
