"""Job functions by name. A name from a stored job is looked up here, and never imported."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from asyncjobs.errors import RegistrationError
from asyncjobs.guard.nearness import nearest_function
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.batch_function import BatchFunction
from asyncjobs.jobs.conversions import ids_of
from asyncjobs.jobs.declared import Declarations, DeclaredSchedule, Draft, drafts_on
from asyncjobs.jobs.foreign import Missing
from asyncjobs.jobs.function import Home, JobFunction, Sender
from asyncjobs.jobs.hooks import Hooked
from asyncjobs.jobs.isolation import isolation_of
from asyncjobs.jobs.main_module import main_module
from asyncjobs.jobs.register import Register, RegisterBatch
from asyncjobs.jobs.resources import Resources
from asyncjobs.jobs.rule import (
    CallOptions,
    CronOptions,
    Interval,
    Rule,
    ScheduleOptions,
    cron_rule,
    every_rule,
)
from asyncjobs.jobs.shared_limits import check_shared_limits
from asyncjobs.options.app import AppSettings
from asyncjobs.options.batch import Batch
from asyncjobs.options.given import Given
from asyncjobs.options.option import Scope, read
from asyncjobs.options.table import FUNCTION, FunctionOptions

__all__ = ["JobRegistry"]

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S")
M = TypeVar("M")


# size: half of it says what each option means, where users look for that
class JobRegistry(Hooked):
    """A set of job functions, for modules that must not import the app.

    An app or another registry includes it. Owns the names of its own job functions and of those
    in the registries that it includes.
    """

    def __init__(self) -> None:
        self._names: dict[str, JobFunction[..., Any]] = {}
        self._parent: JobRegistry | None = None
        self._children: list[JobRegistry] = []
        self._home = Home()
        self.hooks = self._home.hooks
        self._declared = Declarations()
        self.made_by: tuple[str, str] | tuple[()] = ()
        """The module and the name of the function that has made the app; empty if it is not known.
        """

    @overload
    def job(self, function: Callable[P, Coroutine[Any, Any, R]], /) -> JobFunction[P, R]: ...
    @overload
    def job(self, function: Callable[P, R], /) -> JobFunction[P, R]: ...
    @overload
    def job(
        self, function: None = None, /, *, batch: Batch, **options: Unpack[FunctionOptions]
    ) -> RegisterBatch: ...
    @overload
    def job(self, function: None = None, /, **options: Unpack[FunctionOptions]) -> Register: ...
    def job(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Register a function as a job function: `@registry.job`, or `@registry.job(queue="mail")`.

        Times are seconds or timedelta. docs/reference/settings.md lists all options with their
        defaults. The usual ones are:

        queue: the queue of its jobs, or a function of their arguments; by default `default`.
        priority: `critical`, `high`, `normal` or `low`; by default `normal`.
        timeout: time-out of each attempt; None means no limit; by default the app's.
        retry: a RetryPolicy or a list of them, a number of attempts, or False for one attempt. By
        default the app's, which also hold for errors that a list does not name.
        discard_on: one exception class or several. They end the job without a retry.
        result_ttl: how long its results are kept; 0 keeps none; by default the app's.
        expires: how long after its enqueue an attempt may start. After that the job is discarded.
        tracing: where the trace of an attempt begins: `link`, `child`, `auto` or `none`; by
        default the app's.
        unique: at most one job with the same key: a Unique, Debounce or Throttle.
        limits: how many of its jobs run at a time, or start in a time, in all workers together: a
        list of Concurrency, RateLimit and Fair.
        max_running: how many of its jobs run at a time in one worker; by default as many as fit.
        batch: a Batch; the function takes a list, and each job has one item of it.
        isolation: `process` runs each attempt in a process of its own.
        max_memory: how much memory such an attempt may take: "512MiB".
        sensitive: names of parameters whose values are never shown. `parameter.key` names one key
        of a parameter.
        name: the name that is stored with its jobs; by default `module.function`.
        aliases: older names, under which jobs may still be stored.

        Raises RegistrationError for a function that cannot be a job function and for a name that
        is taken, ConfigError naming an option that cannot work, and TypeError for an unknown
        option.
        """
        fields = read(options, FUNCTION, Scope.FUNCTION)
        # These three say what is registered. All others are options of its jobs.
        name = fields.pop("name", None)
        aliases = fields.pop("aliases", ())
        sensitive = fields.pop("sensitive", ())
        given = Given(fields)

        def register(function: Callable[..., Any], /) -> JobFunction[..., Any]:
            return self._add(function, name, aliases, sensitive, given)

        if function is None:
            return register
        return register(function)

    def cron(self, expression: str, **options: Unpack[CronOptions]) -> Callable[[F], F]:
        """Enqueue jobs of a function at the times of a cron expression:
        `@registry.cron("30 2 * * *", tz="Europe/Berlin")`.

        It stands above or below `@registry.job`, any number of times. An expression has five
        fields, or is `@hourly`, `@daily`, `@weekly`, `@monthly` or `@yearly`.

        tz: the IANA name of the time zone; by default UTC.
        Further options are those of `every`.

        Raises ConfigError for an expression, a zone or an option that cannot work,
        RegistrationError for an id that is taken, and ArgumentsError or EncodeError for
        arguments with which no job can be made.
        """
        return self._schedule(*cron_rule(expression, options))

    def every(self, interval: Interval, **options: Unpack[ScheduleOptions]) -> Callable[[F], F]:
        """Enqueue jobs of a function again and again: `@registry.every("90s")`.

        The interval is a number of seconds, a timedelta, or a text such as `90s`, `5m` or `2h`;
        at least 1 s. Its ticks are counted from 1970, so a restart does not move them.

        id: the id of the schedule, unique in the store; by default the name of the job function,
        and for further ones `name#2` and so on, from the `def` upwards.
        args: the positional arguments of its jobs. `FromTick.DATE` and the like are filled in.
        kwargs: the keyword arguments, in the same way.
        catch_up: which ticks still fire after a time without workers: `latest`, `none` or `all`.
        window: how old such a tick may be; by default 1 h.
        overlap: what happens to a tick while an earlier job of the schedule has not ended:
        `allow`, `skip`, `queue_one` or `cancel_running`.
        jitter: fire each tick later, by up to this time.
        start: no tick before this aware datetime.
        end: no tick after this one.
        limit: how many jobs it makes at most.

        Raises like `cron`.
        """
        return self._schedule(*every_rule(interval, options))

    def serializer(
        self, kind: type[S], /, *, dump: Callable[[S], Any], load: Callable[[Any], S]
    ) -> None:
        """Say how values of a class are stored: `registry.serializer(Money, dump=str, load=read)`.

        For annotated parameters and results of classes that are not known, and instead of the known
        way for those that are. Write it before the job functions that need it.

        dump: returns JSON for a value: text, numbers, lists, dicts.
        load: returns the value again. It must be equal.

        Raises RegistrationError.
        """
        self._home.types.add_serializer(kind, dump, load)
        self._renew()

    def loader(
        self,
        model: type[M],
        /,
        *,
        load: Callable[[Any], Coroutine[Any, Any, M | None]],
        id: Callable[[M], Any],
        missing: Missing = "discard",
    ) -> None:
        """Say how rows of a model are loaded, for parameters that are a `Ref[Model]`.

        load: an async function that gets an id and returns the row, or None if it is gone. The
        annotation of its parameter is the type of the id; text or a number without one.
        id: returns the id of a row.
        missing: a job whose row is gone is discarded with the reason `gone`; with `fail` its
        attempt fails with RowMissing.

        Raises RegistrationError.
        """
        self._home.types.add_loader(model, load, id, ids_of(load), missing)
        self._renew()

    def _renew(self) -> None:
        """Let all job functions that may use a new serializer read their annotations again."""
        self._home.renew()
        for child in self._children:
            child._renew()

    def _schedule(self, rule: Rule, call: CallOptions) -> Callable[[F], F]:
        def declare(function: F) -> F:
            draft = Draft(rule, call)
            given: Callable[..., Any] = function
            if isinstance(given, JobFunction):
                self._declare(draft, given)
            else:
                self._declared.wait(draft, given)
            return function

        return declare

    def _declare(self, draft: Draft, function: JobFunction[..., Any]) -> None:
        schedule = self._declared.new(draft, function)
        # Ids are checked in all registries above, as names of job functions are.
        for registry in self._ancestry():
            registry._declared.check_free(schedule)
        for registry in self._ancestry():
            registry._declared.add([schedule])

    def lifespan(self, function: F) -> F:
        """Open what this function makes when a worker starts, and close it after its last job:
        `@registry.lifespan`.

        It is an async generator with one `yield`, or any other function that `Depends` takes. Job
        functions get what it yields by `Depends(function)`. Apps that only enqueue do not open it.

        Raises RegistrationError for parameters that nobody would fill in, and for a dependency
        that is made once an attempt.
        """
        self.resources.add_lifespan(function)
        return function

    @property
    def resources(self) -> Resources:
        """What is opened once a worker for the jobs of this registry."""
        return self._home.resources

    def schedules(self) -> list[DeclaredSchedule]:
        """The schedules of all job functions, those of included registries too.

        Raises RegistrationError for a schedule on a function that is no job function.
        """
        for child in self._children:
            child.schedules()
        self._declared.check_waiting()
        return list(self._declared.schedules.values())

    def include(self, registry: JobRegistry) -> None:
        """Add the job functions of `registry`, including those that it gets later.

        Raises RegistrationError if a name is taken, or if `registry` belongs to another app or
        registry, because its jobs can go to one app only.
        """
        if not isinstance(registry, JobRegistry):
            raise RegistrationError(f"include() takes a JobRegistry, not {shown(registry)}")
        # Two modules may include the same registry in one app.
        if registry._parent is self:
            return
        if registry._parent is not None or registry._home.sender is not None:
            raise RegistrationError(
                "this JobRegistry is included in another app or registry; make one registry "
                "for each, its jobs can go to one app only"
            )
        # A circle of registries would make `_ancestry` endless.
        if registry in self._ancestry():
            raise RegistrationError("a JobRegistry cannot include itself")
        # Check all names before the first change: a refused registry changes nothing.
        for name, function in registry._names.items():
            self._check_free(name, function)
            check_shared_limits(function, self._ancestry()[-1].functions())
        for ancestor in self._ancestry():
            for schedule in registry._declared.schedules.values():
                ancestor._declared.check_free(schedule)
        # Each registry above has all names, so that `find` is one look into a dict.
        for ancestor in self._ancestry():
            ancestor._names.update(registry._names)
            ancestor._declared.add(registry._declared.schedules.values())
        registry._parent = self
        registry.hooks.outer = self.hooks
        registry._home.types.parent = self._home.types
        self._children.append(registry)
        registry.resources.join(self.resources)
        if self._home.sender is not None:
            registry.bind(self._home.sender, self._home.settings)

    def find(self, name: str) -> JobFunction[..., Any] | None:
        """The job function with this name or alias; None if there is none."""
        return self._names.get(name)

    def near(self, name: str) -> str | None:
        """The name that was probably meant by an unknown one; None if none is near."""
        return nearest_function(name, self._names)

    def functions(self) -> list[JobFunction[..., Any]]:
        """All job functions, included ones too, in the order of their registration."""
        return list(dict.fromkeys(self._names.values()))

    def queues(self) -> set[str]:
        """The queues of all job functions and schedules."""
        functions = [*self._names.values()]
        functions += [schedule.function for schedule in self._declared.schedules.values()]
        return {queue for function in functions for queue in function.settings.queues}

    def bind(self, sender: Sender, settings: AppSettings) -> None:
        """Send the jobs of this registry, and of those that it includes, to this app."""
        self._home.sender = sender
        self._home.settings = settings
        for child in self._children:
            child.bind(sender, settings)
        # Now, and not at the first job: a type that nobody knows to store is a mistake in the code.
        for function in self.functions():
            function.read_types()

    def _ancestry(self) -> list[JobRegistry]:
        """This registry, the one that includes it, and so on to the outermost."""
        found: list[JobRegistry] = [self]
        while found[-1]._parent is not None:
            found.append(found[-1]._parent)
        return found

    def _add(
        self,
        function: Callable[..., Any],
        name: str | None,
        aliases: tuple[str, ...],
        sensitive: tuple[str, ...],
        given: Given,
    ) -> JobFunction[..., Any]:
        checked = _check_function(function)
        full_name = name
        if full_name is None:
            full_name = _default_name(checked)
        kind: type[JobFunction[..., Any]] = JobFunction
        if "batch" in given.fields:
            kind = BatchFunction
        job_function: JobFunction[..., Any] = kind(
            checked,
            name=full_name,
            aliases=aliases,
            isolation=isolation_of(checked, full_name, given.fields),
            home=self._home,
            given=given,
            sensitive=sensitive,
        )
        names = (full_name, *aliases)
        # Names are checked in all registries above, because an app looks them up in one table.
        for each in names:
            self._check_free(each, job_function)
        check_shared_limits(job_function, self._ancestry()[-1].functions())
        for registry in self._ancestry():
            # A reload defines the same function again, perhaps with fewer aliases. Those of the
            # older definition must not stay behind.
            stale = _older_definitions(registry._names, job_function)
            for each in stale:
                del registry._names[each]
            registry._declared.drop(stale)
            registry._names.update(dict.fromkeys(names, job_function))
        for draft in drafts_on(checked):
            self._declare(draft, job_function)
        return job_function

    def _check_free(self, name: str, function: JobFunction[..., Any]) -> None:
        for registry in self._ancestry():
            taken = registry._names.get(name)
            if taken is None or taken is function:
                continue
            if _same_function(taken, function):
                raise RegistrationError(
                    f"{name} is a job function already, registered from {_place(taken)}; write "
                    "f.options(...) for other options of a single enqueue, or name=... for a "
                    "second job function"
                )
            if not _same_definition(taken, function):
                raise RegistrationError(
                    f"two job functions are called {name!r}: {_place(taken)} and "
                    f"{_place(function)}; give one of them name=..."
                )


def _same_definition(one: JobFunction[..., Any], other: JobFunction[..., Any]) -> bool:
    """Whether both come from one `def` that was executed twice: by a reload, or because a module
    is run as `__main__` and also imported. The newer one replaces the older."""
    return _place(one) == _place(other) and one.__qualname__ == other.__qualname__


def _same_function(one: JobFunction[..., Any], other: JobFunction[..., Any]) -> bool:
    """Whether one function was registered twice. The second registration would silently replace
    the options of the first. (A `def` that is executed again makes another function.)"""
    return inspect.unwrap(one.function) is inspect.unwrap(other.function)


def _older_definitions(
    names: dict[str, JobFunction[..., Any]], function: JobFunction[..., Any]
) -> list[str]:
    return [
        name
        for name, known in names.items()
        if known.name == function.name and _same_definition(known, function)
    ]


def _place(function: JobFunction[..., Any]) -> str:
    # The user's own `def`, not the wrapper of a decorator: all wrappers stand at one place.
    inner = inspect.unwrap(function.function)
    code = getattr(inner, "__code__", function.function.__code__)
    return f"{code.co_filename}:{code.co_firstlineno}"


def _check_function(function: Any) -> FunctionType:
    """`function`, if another process can find it by its name. Raises RegistrationError."""
    if isinstance(function, JobFunction):
        raise RegistrationError(
            f"{function.name} is a job function already; use aliases= for a second name"
        )
    if inspect.ismethod(function):
        raise _refused(function, "is a method; its object would not travel with the job")
    if not isinstance(function, FunctionType):
        raise _refused(function, "is not a plain function; wrap it in a def at module level")
    if function.__name__ == "<lambda>":
        raise _refused(function, "is a lambda; it has no name to be found by, use def")
    # A worker finds a job function by importing its module, and a nested one is not there.
    if "<locals>" in function.__qualname__:
        raise _refused(
            function,
            "is nested in another function; move it to module level, where a worker finds it "
            "(a decorator of it needs functools.wraps)",
        )
    if "." in function.__qualname__:
        raise _refused(
            function, "is a method; its object would not travel with the job, use a module function"
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise _refused(function, "is a generator; a job returns one value, collect them in a list")
    # A sync wrapper around an async function returns a coroutine, which a thread cannot await.
    inner = inspect.unwrap(function)
    if inspect.iscoroutinefunction(inner) and not inspect.iscoroutinefunction(function):
        raise _refused(
            function, "is a plain function around an async one; make the wrapper async def"
        )
    return function


def _refused(function: Any, why: str) -> RegistrationError:
    name = getattr(function, "__qualname__", None) or repr(function)
    module = getattr(function, "__module__", None)
    if module:
        name = f"{module}.{name}"
    return RegistrationError(f"{name} {why}")


def _default_name(function: FunctionType) -> str:
    module: str | None = function.__module__
    if module == "__main__":
        module = main_module()
    if module is None:
        raise RegistrationError(
            f"{function.__qualname__} is written on a command line (python -c), in an interactive "
            "session or in a notebook, and no worker can import it from there; move it to a "
            "module, or give it name=... if a worker in this very process runs it"
        )
    return f"{module}.{function.__qualname__}"
