"""Celery's canvas over flows: signatures, `chain`, `group` and `chord`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar, Unpack

from asyncjobs.app import AsyncJobs
from asyncjobs.compat.celery.options import ApplyOptions, Priorities, apply_options
from asyncjobs.compat.celery.result import CeleryFlowResult, CeleryResult
from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs import workflow
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.node import PREVIOUS
from asyncjobs.jobs.workflow import Item

__all__ = ["Canvas", "Signature", "chain", "chord", "group", "send"]

R_co = TypeVar("R_co", covariant=True)


def send(
    job: JobFunction[..., Any],
    priorities: Priorities | None,
    args: Iterable[Any] | None,
    kwargs: Mapping[str, Any] | None,
    options: Mapping[str, Any],
) -> CeleryResult[Any]:
    """Store one job, with options of Celery. See `CeleryTask.apply_async`."""
    given = apply_options(options, priorities)
    if given:
        job = job.options(**given)
    return CeleryResult(job.enqueue_sync(*(args or ()), **(kwargs or {})))


class Canvas(Generic[R_co]):
    """Something that a flow can be made of: a signature, or a `chain`, `group` or `chord`."""

    def item(self, args: tuple[Any, ...], *, follows: bool) -> Item[Any]:
        """What it is in a flow. `args` come in front of its own; `follows`: something stands before
        it, whose result comes first of all."""
        raise NotImplementedError  # each kind of signature says it

    def owner(self) -> AsyncJobs:
        """The app that starts it. Raises UsageError without any task, and NotBound."""
        raise NotImplementedError  # the same

    def __or__(self, other: Canvas[Any]) -> Canvas[Any]:
        """First this, then the other one, which gets the result."""
        if not isinstance(other, Canvas):
            return NotImplemented
        return chain(self, other)

    def delay(self, *args: Any) -> Any:
        """Start it; `args` come in front of the arguments of what runs first."""
        return self.apply_async(args)

    def apply_async(self, args: Iterable[Any] = ()) -> Any:
        """Start it as a flow, and return its CeleryFlowResult. Blocks until all jobs are stored.

        Options belong to the signatures in it: `f.s(1).set(queue="slow")`. Raises like
        `Flows.start_sync`.
        """
        work = self.item(tuple(args), follows=False)
        return CeleryFlowResult(self.owner().flows.start_sync(work))

    def __call__(self, *args: Any) -> Any:
        """The same as `delay`."""
        return self.delay(*args)


class Signature(Canvas[R_co]):
    """A task with arguments and options, to be started later. Made by `f.s(...)` and `f.si(...)`.

    It is a value: `set` and `clone` return another one.
    """

    def __init__(
        self,
        job: JobFunction[..., R_co],
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        immutable: bool = False,
        priorities: Priorities | None = None,
    ) -> None:
        """`immutable`: it gets no result of what comes before it."""
        self.job = job
        self.args = tuple(args)
        self.kwargs = dict(kwargs or {})
        self.options = dict(options or {})
        self.immutable = immutable
        self._priorities = priorities

    def set(self, **options: Unpack[ApplyOptions]) -> Signature[R_co]:
        """The same with more options: those of `apply_async`."""
        return self._with(self.args, self.kwargs, {**self.options, **options})

    def clone(
        self, args: Iterable[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Signature[R_co]:
        """The same with more arguments, in front of its own."""
        return self._with((*args, *self.args), {**self.kwargs, **(kwargs or {})}, self.options)

    def delay(self, *args: Any, **kwargs: Any) -> CeleryResult[R_co]:
        """Store a job. `args` come in front of its own arguments."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[ApplyOptions],
    ) -> CeleryResult[R_co]:
        """Store a job with further arguments and options. Raises like `CeleryTask.apply_async`."""
        # As in Celery: what a callback gets comes before what was written into the signature.
        own = self.clone(args or (), kwargs)
        return send(self.job, self._priorities, own.args, own.kwargs, {**self.options, **options})

    def item(self, args: tuple[Any, ...], *, follows: bool) -> JobCall[Any]:
        job: JobFunction[..., Any] = self.job
        given = apply_options(self.options, self._priorities)
        if given:
            job = job.options(**given)
        if self.immutable:
            return job.bind(*self.args, **self.kwargs)
        # By reference: the result is put there when the job runs, and is not stored twice.
        before: tuple[Any, ...] = args
        if follows:
            before = (PREVIOUS, *args)
        return job.bind(*before, *self.args, **self.kwargs)

    def owner(self) -> AsyncJobs:
        app = self.job.sender.reader
        # Only an app has a sender. The type of the protocol does not say so.
        if not isinstance(app, AsyncJobs):
            raise UsageError(f"{self.job.name} belongs to no AsyncJobs")
        return app

    def _with(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], options: Mapping[str, Any]
    ) -> Signature[R_co]:
        return Signature(
            self.job,
            args,
            kwargs,
            options=options,
            immutable=self.immutable,
            priorities=self._priorities,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the function here, without a job. That of an async function is awaited."""
        own = self.clone(args, kwargs)
        return self.job.function(*own.args, **own.kwargs)

    def __repr__(self) -> str:
        return f"<Signature of {self.job.name}>"


class _Parts(Canvas[R_co]):
    """Several canvases together."""

    def __init__(self, parts: Sequence[Canvas[Any]]) -> None:
        self.parts = tuple(parts)

    def owner(self) -> AsyncJobs:
        if not self.parts:
            raise UsageError("there is no task in it; give signatures, such as f.s(1)")
        return self.parts[0].owner()

    def __repr__(self) -> str:
        return f"<{type(self).__name__.strip('_').lower()} of {len(self.parts):,}>"


class _Chain(_Parts[R_co]):
    def item(self, args: tuple[Any, ...], *, follows: bool) -> Item[Any]:
        items: list[Any] = []
        for part in self.parts:
            items.append(part.item(args, follows=follows or bool(items)))
            # Only the first one gets what the chain was called with.
            args = ()
        return workflow.chain(*items)


class _Group(_Parts[R_co]):
    def item(self, args: tuple[Any, ...], *, follows: bool) -> Item[Any]:
        return workflow.group(part.item(args, follows=follows) for part in self.parts)


class _Chord(_Parts[R_co]):
    """A group that waits for its callback: `chord(header)(callback)`."""

    def __call__(self, *args: Canvas[Any]) -> Any:
        """Start it with this callback."""
        (callback,) = args
        return chord(self.parts, callback).apply_async()


def chain(*parts: Canvas[Any] | Iterable[Canvas[Any]]) -> Canvas[Any]:
    """One after the other: `chain(add.s(1, 2), double.s())`. Each gets the result of the one before
    it as its first argument, unless it was made by `si`.

    When one fails, those behind it are cancelled. Raises UsageError for what is no signature.
    """
    found: list[Canvas[Any]] = []
    for part in _listed(parts, "chain"):
        # One long chain and not chains in chains, however it was put together.
        if isinstance(part, _Chain):
            found += part.parts
        else:
            found.append(part)
    if not found:
        raise UsageError("chain() has nothing to run; give signatures, such as f.s(1)")
    return _Chain(found)


def group(*parts: Canvas[Any] | Iterable[Canvas[Any]]) -> Canvas[list[Any]]:
    """All at the same time: `group(add.s(n, n) for n in range(10))`. The result is the list of
    their results. Raises UsageError for what is no signature."""
    return _Group(_listed(parts, "group"))


def chord(header: Canvas[Any] | Iterable[Canvas[Any]], body: Canvas[Any] | None = None) -> Any:
    """A group, and what gets the list of its results: `chord([add.s(n, n) for n in (1, 2)],
    total.s())`, or `chord(header)(total.s())`, which starts it.

    Raises UsageError for what is no signature.
    """
    first = header
    if not isinstance(first, _Group):
        first = group(first)
    # The form of two calls, of which the second one starts it.
    if body is None:
        assert isinstance(first, _Group)
        return _Chord(first.parts)
    return chain(first, body)


def _listed(parts: Sequence[Any], kind: str) -> list[Canvas[Any]]:
    # A generator can be walked through once only, so it becomes a list.
    if len(parts) == 1 and isinstance(parts[0], Iterable):
        parts = list(parts[0])
    for part in parts:
        if not isinstance(part, Canvas):
            raise UsageError(f"{kind}() takes signatures, such as f.s(1), not {shown(part)}")
    return list(parts)
