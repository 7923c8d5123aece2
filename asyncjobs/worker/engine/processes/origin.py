"""Where the job functions of an app come from, so that another process can import them."""

from __future__ import annotations

import importlib
import inspect
import os.path
import sys
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from types import ModuleType
from typing import Any, NamedTuple

from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.jobs.main_module import main_module
from asyncjobs.jobs.registry import JobRegistry

__all__ = ["Origin", "Wanted", "find_functions", "main_name", "origin_of", "read_origin"]


class Wanted(NamedTuple):
    """A job function: its name, and its `def` by module, name and place in a file."""

    name: str
    module: str
    qualname: str
    place: str


class Origin(NamedTuple):
    """Where to find an app's job functions.

    `app`: a module and an attribute that is the app, or the function that makes it; empty if
    neither is known.
    """

    functions: tuple[Wanted, ...]
    app: tuple[str, str] | tuple[()] = ()


# ── in the worker ────────────────────────────────────────────────────────────────────


def origin_of(app: object, registry: JobRegistry) -> Origin:
    """Where the functions of this app with `isolation="process"` come from. Looks at files, so it
    is not for the event loop."""
    main_name()
    wanted = tuple(
        _wanted(function)
        for function in registry.functions()
        if function.isolation is Isolation.PROCESS
    )
    return Origin(wanted, _place_of(app) or registry.made_by)


def _wanted(function: JobFunction[..., Any]) -> Wanted:
    inner = function.function
    return Wanted(
        function.name,
        _importable(inner.__module__),
        inner.__qualname__,
        _place(inner),
    )


@cache
def main_name() -> str | None:
    """The name by which a child has imported the main program of the worker. Looked up once, since
    that looks at files."""
    return main_module()


def _importable(module: str) -> str:
    if module == "__main__":
        return main_name() or module
    return module


def _place(function: Callable[..., Any]) -> str:
    """Where the function itself stands, not what it wraps: a wrapper must not be left out."""
    code = function.__code__
    return f"{os.path.realpath(code.co_filename)}:{code.co_firstlineno}:{code.co_name}"


def _place_of(app: object) -> tuple[str, str] | tuple[()]:
    # A child that has the app itself knows all that was set on it.
    for name, module in list(sys.modules.items()):
        if not isinstance(module, ModuleType):
            continue
        for attribute, value in list(vars(module).items()):
            if value is app:
                return _importable(name), attribute
    return ()


# ── in the fork server ───────────────────────────────────────────────────────────────


def find_functions(origin: Origin) -> tuple[dict[str, JobFunction[..., Any]], dict[str, str]]:
    """Import what is needed. Returns the functions by name, and why others were not found.

    Raises what the user's modules raise.
    """
    registry: JobRegistry | None = None
    if origin.app:
        registry = _registry_at(*origin.app)
    found: dict[str, JobFunction[..., Any]] = {}
    missing: dict[str, str] = {}
    for wanted in origin.functions:
        function = registry.find(wanted.name) if registry is not None else None
        if function is None:
            function = _by_module(wanted)
        if function is None:
            missing[wanted.name] = (
                f"module {wanted.module!r}, imported by another process, has no function "
                f"{wanted.qualname!r} of {wanted.place.rpartition(':')[0]}"
            )
            continue
        found[wanted.name] = function
    return found, missing


def _registry_at(module: str, attribute: str) -> JobRegistry | None:
    """The registry of the app that stands there, or of the one that is made there."""
    value: Any = attrgetter(attribute)(importlib.import_module(module))
    registry = getattr(value, "registry", None)
    # Without the app itself, what was set on it would be missing: context variables that travel,
    # ways to store a type, what must not be shown.
    # rule:27 a process has the app of a factory, with all that was set on it
    if registry is None and callable(value):
        registry = getattr(value(), "registry", None)
    return registry


def _by_module(wanted: Wanted) -> JobFunction[..., Any] | None:
    module = importlib.import_module(wanted.module)
    value = vars(module).get(wanted.qualname)
    if isinstance(value, JobFunction):
        if value.name == wanted.name or _is_at(value.function, wanted):
            return value
        return None
    # Registered somewhere else: `app.job(name="second")(f)` leaves the name to the function.
    if not inspect.isfunction(value) or not _is_at(value, wanted):
        return None
    return JobRegistry().job(name=wanted.name)(value)


def _is_at(function: Callable[..., Any], wanted: Wanted) -> bool:
    return _place(function) == wanted.place


def read_origin(functions: Iterable[Iterable[str]], app: Iterable[str]) -> Origin:
    """The origin, out of JSON."""
    place = tuple(app)
    if len(place) == 2:
        return Origin(tuple(Wanted(*each) for each in functions), place)
    return Origin(tuple(Wanted(*each) for each in functions))
