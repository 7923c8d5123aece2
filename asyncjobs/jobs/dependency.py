"""Dependencies: what a job function needs beside its arguments, and who makes it.

`db: Db = Depends(get_db)` is read once, when the job function is registered. What cannot work is
refused there, because a job runs long after.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, TypeVar, overload

from asyncjobs.errors import RegistrationError, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.context import INJECTED

if TYPE_CHECKING:
    # Their public bases would also fit a pool or a lock, which nobody enters here.
    from contextlib import (
        _AsyncGeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
        _GeneratorContextManager,  # pyright: ignore[reportPrivateUsage]
    )

__all__ = [
    "Dependency",
    "Depends",
    "Kept",
    "Maker",
    "Need",
    "Provider",
    "is_lifespan",
    "mark_lifespan",
    "needs_of",
    "provider_of",
]

T = TypeVar("T")

Kept = Literal["attempt", "worker"]
"""How long a dependency is kept: for one attempt, or as long as its worker runs."""
Maker: TypeAlias = Callable[..., Any]
"""A function that makes a dependency."""

_LIFESPAN: Final = "__asyncjobs_lifespan__"
"""The attribute of a function that `@app.lifespan` stands on."""


class Dependency:
    """The default of a parameter that is filled in: what `Depends(...)` returns."""

    __slots__ = ("function", "scope")

    def __init__(self, function: Maker, scope: Kept | None) -> None:
        self.function = function
        self.scope: Kept | None = scope

    def __repr__(self) -> str:
        # It stands in signatures, which errors and documentation show.
        return f"Depends({name_of(self.function)})"


# What it returns is a Dependency. To type checkers it is what the function makes.
@overload
def Depends(
    function: Callable[..., _AsyncGeneratorContextManager[T]], /, *, scope: Kept | None = None
) -> T: ...
@overload
def Depends(
    function: Callable[..., _GeneratorContextManager[T]], /, *, scope: Kept | None = None
) -> T: ...
@overload
def Depends(function: Callable[..., AsyncIterator[T]], /, *, scope: Kept | None = None) -> T: ...
@overload
def Depends(function: Callable[..., Iterator[T]], /, *, scope: Kept | None = None) -> T: ...
@overload
def Depends(function: Callable[..., Awaitable[T]], /, *, scope: Kept | None = None) -> T: ...
@overload
def Depends(function: Callable[..., T], /, *, scope: Kept | None = None) -> T: ...
def Depends(function: Maker, /, *, scope: Kept | None = None) -> Any:  # noqa: N802 - a default
    """The default of a keyword-only parameter that is filled in with what `function` makes:
    `async def report(day: str, *, db: Db = Depends(get_db))`.

    function: an async or sync function, whose value is taken, or a generator with one `yield`.
    What stands behind its `yield` runs when the attempt is over, whatever its end is, and sees the
    error of the attempt. Its parameters may be dependencies, and one JobContext that is INJECTED.
    It is called on the event loop, and once an attempt, however many ask for it.
    scope: `attempt`, or `worker` for what is made once a worker, when it is first needed, and
    closed after the worker's last job. The default is `attempt`; for a function with
    `@app.lifespan` it is `worker`.

    A parameter with it is no argument: an enqueue refuses it. Raises RegistrationError for a wrong
    scope, and for what cannot be called. The decorator of the job function raises it, too, for
    parameters that nobody would fill in, for circles, and for what is made once a worker but needs
    something of a single attempt.
    """
    if not callable(function):
        raise RegistrationError(
            f"Depends() takes a function that makes the dependency, not {shown(function)}"
        )
    if scope not in (None, "attempt", "worker"):
        raise RegistrationError(
            f"Depends({name_of(function)}, scope={shown(scope)}): scope is 'attempt' or 'worker'"
        )
    return Dependency(function, scope)


def mark_lifespan(function: Maker) -> None:
    """Let all who depend on this function share what it makes. Raises RegistrationError."""
    # On the function and not in a registry: job functions of any registry may depend on it, and
    # whoever read a default long before must see it.
    try:
        setattr(function, _LIFESPAN, True)
    except AttributeError:
        raise RegistrationError(
            f"a lifespan is a function at module level, not {shown(function)}"
        ) from None


def is_lifespan(function: Maker) -> bool:
    """Whether `@app.lifespan` stands on this function."""
    return getattr(function, _LIFESPAN, False) is True


def name_of(function: Maker) -> str:
    """How logs and errors name such a function."""
    name = getattr(function, "__qualname__", None)
    if not isinstance(name, str):
        return shown(function)
    return f"{getattr(function, '__module__', None) or '?'}.{name}"


class Need(NamedTuple):
    """A parameter with `Depends`: its name, and who makes its value."""

    parameter: str
    provider: Provider
    scope: Kept | None

    @property
    def is_shared(self) -> bool:
        """Whether the value is made once a worker."""
        # Asked for each attempt: a function may become a lifespan after it was read here.
        return self.scope == "worker" or is_lifespan(self.provider.function)


class Provider:
    """A function that makes a dependency, read once, and what it needs itself. Never changes.

    `context` is the name of its JobContext parameter.
    """

    __slots__ = ("_enter", "_is_async", "context", "function", "name", "needs")

    def __init__(
        self, function: Maker, name: str, needs: Sequence[Need], context: str | None
    ) -> None:
        self.function = function
        self.name = name
        self.needs = tuple(needs)
        self.context = context
        self._enter, self._is_async = _way_to_make(function)

    async def make(self, stack: AsyncExitStack, values: dict[str, Any]) -> Any:
        """Its value. `stack` ends it."""
        made = self._enter(**values)
        if self._is_async is None:
            return await self._as_it_is(made)
        if not self._is_async:
            return stack.enter_context(made)
        if inspect.isawaitable(made):
            return await made
        return await stack.enter_async_context(made)

    async def _as_it_is(self, made: Any) -> Any:
        """What a plain function has returned, which may be work that is not done yet."""
        if inspect.iscoroutine(made):
            return await made
        if inspect.isgenerator(made) or inspect.isasyncgen(made):
            # Nobody would run what stands behind its `yield`.
            raise UsageError(
                f"the dependency {self.name} has returned a generator; give the generator function "
                "itself, not a function that calls it"
            )
        return made


def _way_to_make(function: Maker) -> tuple[Maker, bool | None]:
    """What to call for the value, and what is returned then: something to await or to enter on the
    loop (True), a context manager (False), or the value itself (None)."""
    is_plain = inspect.isroutine(function) or inspect.isclass(function)
    if not (is_plain or isinstance(function, partial)):
        # An object with `async def __call__`, which Python does not take for an async function.
        function = getattr(function, "__call__", function)  # noqa: B004 - its kind is asked for
    if inspect.isasyncgenfunction(function):
        return asynccontextmanager(function), True
    if inspect.isgeneratorfunction(function):
        return contextmanager(function), False
    if inspect.iscoroutinefunction(function):
        return function, True
    # `@asynccontextmanager` and `@contextmanager` return plain functions. Only those are entered:
    # a pool that a function returns can be entered, too, and would be closed by it.
    inner = getattr(function, "__wrapped__", None)
    if inspect.isasyncgenfunction(inner):
        return function, True
    if inspect.isgeneratorfunction(inner):
        return function, False
    return function, None


# -- reading them at registration -----------------------------------------------------------------


def needs_of(name: str, parameters: Sequence[Parameter]) -> tuple[Need, ...]:
    """The dependencies of a job function. Raises RegistrationError for what cannot work."""
    for parameter in parameters:
        is_marked = isinstance(parameter.default, Dependency)
        if is_marked and parameter.kind is not Parameter.KEYWORD_ONLY:
            # By position it would be an argument, and those behind it would move.
            raise RegistrationError(
                f"{name}: the parameter {parameter.name!r} with Depends must be keyword-only; "
                f"write '*, {parameter.name}: ... = {parameter.default!r}' at the end"
            )
    return _needs(name, parameters, (), {})


def provider_of(function: Maker, *, is_shared: bool = False) -> Provider:
    """Who makes what this function makes. Raises RegistrationError for what cannot work.

    `is_shared`: whether it is made once a worker.
    """
    provider = _provider(function, (), {})
    if is_shared:
        _check_shared(provider)
    return provider


def _needs(
    owner: str,
    parameters: Sequence[Parameter],
    path: tuple[Maker, ...],
    known: dict[Maker, Provider],
) -> tuple[Need, ...]:
    found: list[Need] = []
    for parameter in parameters:
        default = parameter.default
        if not isinstance(default, Dependency):
            continue
        if parameter.annotation is Parameter.empty:
            raise RegistrationError(
                f"{owner}: the parameter {parameter.name!r} with Depends has no annotation; "
                f"write the type of what it gets: '{parameter.name}: ... = {default!r}'"
            )
        scope: Kept | None = default.scope
        need = Need(parameter.name, _provider(default.function, path, known), scope)
        if is_lifespan(default.function) and default.scope == "attempt":
            raise RegistrationError(
                f"{owner}: {parameter.name!r} has scope='attempt', but {need.provider.name} is a "
                "lifespan, which is opened once a worker; leave the scope out"
            )
        if need.is_shared:
            _check_shared(need.provider)
        found.append(need)
    return tuple(found)


def _provider(function: Maker, path: tuple[Maker, ...], known: dict[Maker, Provider]) -> Provider:
    """`path`: those that need it, the outermost first. `known`: those that were read before."""
    name = name_of(function)
    # rule:28 dependencies that need each other are refused at registration
    if function in path:
        circle = " -> ".join(name_of(each) for each in (*path[path.index(function) :], function))
        raise RegistrationError(f"dependencies need each other: {circle}")
    if (provider := known.get(function)) is not None:
        return provider
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        # Some classes and functions written in C have no signature.
        raise RegistrationError(
            f"the parameters of the dependency {name} cannot be read ({error}); wrap it in a "
            "function without parameters"
        ) from None
    context = _context_of(name, parameters)
    needs = _needs(name, parameters, (*path, function), known)
    provider = known[function] = Provider(function, name, needs, context)
    return provider


def _context_of(name: str, parameters: Sequence[Parameter]) -> str | None:
    """The name of the parameter that gets the JobContext. Raises RegistrationError for parameters
    that nobody would fill in."""
    context: str | None = None
    for parameter in parameters:
        is_filled = parameter.default is INJECTED or isinstance(parameter.default, Dependency)
        is_spread = parameter.kind in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
        if is_filled and parameter.kind is Parameter.POSITIONAL_ONLY:
            raise RegistrationError(
                f"the dependency {name}: its parameter {parameter.name!r} is filled in by its "
                "name, so it cannot be positional-only"
            )
        if parameter.default is Parameter.empty and not is_spread:
            raise RegistrationError(
                f"the dependency {name}: nobody would fill in its parameter {parameter.name!r}; "
                "give it a default, Depends(...), or INJECTED for the JobContext"
            )
        if parameter.default is INJECTED:
            context = parameter.name
    return context


def _check_shared(provider: Provider) -> None:
    """Raises RegistrationError for what a worker makes once, if it needs a single attempt."""
    if provider.context is not None:
        raise RegistrationError(
            f"the dependency {provider.name} is made once a worker, so it gets no JobContext; "
            f"leave {provider.context!r} out, or use it with scope='attempt'"
        )
    for need in provider.needs:
        # rule:28 what lives as long as a worker needs nothing that lives as long as an attempt
        if not need.is_shared:
            raise RegistrationError(
                f"the dependency {provider.name} is made once a worker, but its parameter "
                f"{need.parameter!r} is made once an attempt; write "
                f"Depends({need.provider.name}, scope='worker')"
            )
        _check_shared(need.provider)
