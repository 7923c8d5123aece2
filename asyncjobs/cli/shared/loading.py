"""Loads the AsyncJobs that the text APP names, or says what to change.

A traceback shows only frames of the user's own code. Frames of asyncjobs and of Python's import
system would hide the one line that matters.
"""

from __future__ import annotations

import importlib
import inspect
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import asyncjobs
from asyncjobs.app import AsyncJobs
from asyncjobs.guard.nearness import nearest
from asyncjobs.guard.texts import type_of
from asyncjobs.jobs.function import JobFunction

__all__ = ["LoadError", "load_app", "put_working_directory_on_path"]

_OURS: Final = str(Path(asyncjobs.__file__).resolve().parent) + os.sep
_IMPORTLIB: Final = (
    "<frozen importlib",
    str(Path(importlib.__file__).parent) + os.sep,
)


class LoadError(Exception):
    """APP names no AsyncJobs. `traceback` is text: the frames of the user's code, or empty."""

    def __init__(self, message: str, error: BaseException | None = None) -> None:
        super().__init__(message)
        self.traceback = ""
        if error is not None:
            self.traceback = _users_traceback(error)


def put_working_directory_on_path() -> None:
    """Let the user's modules be imported. A console script has its own folder on the path, not the
    working directory."""
    folder = os.getcwd()
    # An empty entry stands for the working directory.
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)


def load_app(text: str, *, factory: bool = False) -> AsyncJobs:
    """The app that `module:attribute` names. Raises LoadError.

    Without `:attribute`, the module must have exactly one AsyncJobs. `factory`: the attribute is a
    function without arguments that returns the app.
    """
    module_name, _, attribute = text.strip().partition(":")
    _check_module_name(text, module_name)
    module = _import(module_name)
    if not attribute:
        if factory:
            raise LoadError(f"{text!r} names no function; with --factory write {module_name}:NAME")
        return _only_app(module)
    value = _attribute(module, attribute)
    where = f"{module_name}:{attribute}"
    if factory:
        made = _made(where, value)
        # A process for single attempts has to make the same app.
        made.registry.made_by = (module_name, attribute)
        return made
    return _checked(where, value)


def _check_module_name(text: str, name: str) -> None:
    if not name:
        raise LoadError(f"{text!r} names no module; write module:attribute, as in tasks:app")
    if name.endswith(".py") or "/" in name or "\\" in name:
        parts = [part for part in name.replace("\\", "/").split("/") if part not in ("", ".")]
        dotted = ".".join(parts).removesuffix(".py")
        advice = f"write {dotted}:app"
        if ".." in parts:
            # No module name leads out of the working directory.
            advice = "change to its folder"
        raise LoadError(f"{name!r} is a file, not a module; {advice}")
    if name.startswith(".") or name.endswith(".") or ".." in name:
        raise LoadError(f"{name!r} is not a module name; write it in full, as in package.tasks:app")


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        # If the traceback has frames of the user, the module itself was found, and something that
        # it imports is missing.
        if not _users_frames(error) and (name == missing or name.startswith(f"{missing}.")):
            raise LoadError(_missing_module(name, missing)) from None
        raise LoadError(_import_failed(name, error), error) from error
    except SystemExit as error:
        raise LoadError(
            f"module {name!r} ends the program when it is imported (sys.exit({error.code!r})); "
            'put that under if __name__ == "__main__"',
            error,
        ) from error
    except Exception as error:
        raise LoadError(_import_failed(name, error), error) from error


def _import_failed(name: str, error: BaseException) -> str:
    return f"module {name!r} cannot be imported: {type(error).__name__}: {error}"


def _missing_module(name: str, missing: str) -> str:
    parent_name, _, last = missing.rpartition(".")
    # There is no module named "", so a name without a parent finds None here.
    parent = sys.modules.get(parent_name)
    # A dot in place of the colon: `tasks.app` for `tasks:app`.
    if parent is not None and name == missing and hasattr(parent, last):
        return f"there is no module {name!r}; did you mean {parent_name}:{last}?"
    if parent is None:
        paths = [os.getcwd()]
        place = f"the working directory {os.getcwd()} or on the Python path"
    elif hasattr(parent, "__path__"):
        paths = list(parent.__path__)
        place = f"package {parent_name!r}"
    else:
        return f"there is no module {missing!r}: {parent_name!r} is a module, not a package"
    found = nearest(last, (module.name for module in pkgutil.iter_modules(paths)))
    if found is None:
        return f"there is no module {missing!r} in {place}; run this where it is"
    full = found
    if parent_name:
        full = f"{parent_name}.{found}"
    return f"there is no module {missing!r} in {place}; did you mean {full!r}?"


def _attribute(module: ModuleType, path: str) -> Any:
    value: Any = module
    walked = module.__name__
    for name in path.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            what = "object"
            if value is module:
                what = "module"
            message = f"{what} {walked!r} has no attribute {name!r}"
            near = nearest(name, _apps(module)) or nearest(name, _public_names(value))
            if near is not None:
                message += f"; did you mean {near!r}?"
            elif apps := _apps(module):
                message += f"; its AsyncJobs {_listed(module, apps)}"
            raise LoadError(message) from None
        walked = f"{walked}.{name}"
    return value


def _only_app(module: ModuleType) -> AsyncJobs:
    apps = _apps(module)
    # One app may have several names in the module.
    distinct = {id(app): app for app in apps.values()}
    if len(distinct) == 1:
        return next(iter(distinct.values()))
    name = module.__name__
    if not distinct:
        raise LoadError(
            f"module {name!r} has no AsyncJobs; write app = AsyncJobs(...) there, or name another "
            f"module; for a function that returns one write {name}:FUNCTION --factory"
        )
    raise LoadError(f"module {name!r} has several AsyncJobs: {_listed(module, apps)}")


def _checked(where: str, value: Any) -> AsyncJobs:
    if isinstance(value, AsyncJobs):
        return value
    if isinstance(value, JobFunction):
        raise LoadError(f"{where} is a job function; APP is the AsyncJobs that has it")
    if inspect.isroutine(value) or inspect.isclass(value):
        raise LoadError(
            f"{where} is not an AsyncJobs but {_described(value)}; if it returns one when called, "
            "add --factory"
        )
    raise LoadError(
        f"{where} is not an AsyncJobs but {_described(value)}; name the variable that is one"
    )


def _made(where: str, factory: Any) -> AsyncJobs:
    if isinstance(factory, AsyncJobs):
        raise LoadError(f"{where} is an AsyncJobs, not a function; leave out --factory")
    if not callable(factory) or isinstance(factory, JobFunction):
        raise LoadError(f"{where} is {_described(factory)}, which --factory cannot call")
    if inspect.iscoroutinefunction(factory):
        raise LoadError(f"{where} is an async function; --factory needs a plain one")
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise LoadError(
            f"the factory {where} failed: {type(error).__name__}: {error}", error
        ) from error
    if not isinstance(made, AsyncJobs):
        raise LoadError(f"the factory {where} returned {_described(made)}, no AsyncJobs")
    return made


def _described(value: Any) -> str:
    if value is None:
        return "None"
    if inspect.isclass(value):
        return f"the class {value.__qualname__}"
    if inspect.isroutine(value):
        return "a function"
    return type_of(value)


def _apps(module: ModuleType) -> dict[str, AsyncJobs]:
    return {name: value for name, value in vars(module).items() if isinstance(value, AsyncJobs)}


def _public_names(value: Any) -> list[str]:
    return [name for name in dir(value) if not name.startswith("_")]


def _listed(module: ModuleType, names: Iterable[str]) -> str:
    return "write " + " or ".join(f"{module.__name__}:{name}" for name in names)


# ── the user's own traceback ─────────────────────────────────────────────────────────


def _is_users(filename: str) -> bool:
    return not filename.startswith((_OURS, *_IMPORTLIB))


def _users_frames(error: BaseException) -> list[traceback.FrameSummary]:
    frames = traceback.extract_tb(error.__traceback__)
    return [frame for frame in frames if _is_users(frame.filename)]


def _users_traceback(error: BaseException) -> str:
    whole = traceback.TracebackException.from_exception(error)
    # Causes and grouped errors have tracebacks of their own.
    pending: list[traceback.TracebackException | None] = [whole]
    while pending:
        each = pending.pop()
        if each is not None:
            kept = [frame for frame in each.stack if _is_users(frame.filename)]
            each.stack = traceback.StackSummary.from_list(kept)
            pending += [each.__cause__, each.__context__, *(each.exceptions or ())]
    return "".join(whole.format()).rstrip()
