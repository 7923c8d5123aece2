"""The error of an attempt, on its way from the child to the worker.

It travels as names, text and plain values. The worker looks its class up among the classes that it
has imported already, so that retry policies know the error. It never imports a name from here.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

from asyncjobs.errors import ProcessDied
from asyncjobs.guard.untrusted import read_text
from asyncjobs.model.codec import to_json
from asyncjobs.policy.redaction import Mask
from asyncjobs.policy.retry import class_name
from asyncjobs.worker.engine.error_text import ErrorText, FromElsewhere, describe
from asyncjobs.worker.engine.processes.origin import main_name

__all__ = ["error_fields", "error_of", "without_frames"]

MOST_MEMBERS: Final = 50
"""Errors of a group that travel, and the most classes of one error."""
MOST_PLAIN: Final = 64 * 1024
"""Bytes of the values of one error."""


# ── in the child ─────────────────────────────────────────────────────────────────────


def error_fields(error: BaseException, mask: Mask | None, depth: int = 0) -> dict[str, Any]:
    """The error as JSON has it. Raises nothing, whatever the user's own exception does."""
    told = describe(error, mask)
    fields: dict[str, Any] = {
        "kind": told.kind,
        "message": told.message,
        "trace": told.trace,
        "classes": _classes(error),
    }
    try:
        if isinstance(error, BaseExceptionGroup) and depth < 3:
            members = error.exceptions[:MOST_MEMBERS]
            fields["members"] = [error_fields(each, mask, depth + 1) for each in members]
        else:
            fields["args"] = [_plain(each) for each in error.args]
            fields["set"] = {name: _plain(each) for name, each in vars(error).items()}
    except BaseException:  # a class of the user's own may raise at any question
        fields.pop("args", None)
    return fields


def _classes(error: BaseException) -> list[list[str]]:
    found = []
    for kind in type(error).__mro__[:MOST_MEMBERS]:
        module = type.__dict__["__module__"].__get__(kind)
        name = type.__dict__["__qualname__"].__get__(kind)
        found.append([str(module), str(name)])
    return found


def _plain(value: Any) -> Any:
    """The value, if JSON has it and it is short; else None."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    try:
        if len(to_json(value)) > MOST_PLAIN:
            return None
    except BaseException:
        return None
    return value


# ── in the worker ────────────────────────────────────────────────────────────────────


def error_of(fields: Mapping[str, Any]) -> BaseException:
    """The error that a child has told of. Raises ValueError or TypeError for fields that no child
    of ours writes."""
    told = ErrorText(
        read_text(fields, "kind"), read_text(fields, "message"), read_text(fields, "trace"), None
    )
    members = fields.get("members")
    if members:
        group = [error_of(each) for each in members]
        return _marked(BaseExceptionGroup(told.message, group), told)
    names = tuple((str(module), str(name)) for module, name in fields["classes"])
    kind = _class_from_elsewhere(names, told.kind)
    error = _made(kind, fields.get("args") or [])
    given = fields.get("set")
    if isinstance(given, dict):
        for name, value in given.items():
            # A property of the class, such as `strerror`, refuses.
            _set(error, name, value)
    return _marked(error, told)


def without_frames(error: BaseException) -> BaseException:
    """The error, told without the frames in which the worker has raised it. They tell the user
    nothing of a process that has died."""
    kind = class_name(type(error))
    return _marked(error, ErrorText(kind, str(error), f"{kind}: {error}\n", None))


def _made(kind: type[BaseException], args: list[Any]) -> BaseException:
    # Without its `__init__`: what that needs did not travel.
    try:
        return kind.__new__(kind, *args)
    except Exception:
        # A `__new__` of its own, or two bases with one each.
        return Exception.__new__(kind, *args)


def _set(error: BaseException, name: str, value: Any) -> None:
    try:
        setattr(error, name, value)
    except Exception:
        return


def _marked(error: BaseException, told: ErrorText) -> BaseException:
    error.__dict__["told_elsewhere"] = told
    return error


@lru_cache(maxsize=1_000)
def _class_from_elsewhere(names: tuple[tuple[str, str], ...], kind: str) -> type[BaseException]:
    """A class with the name `kind` below the first of these classes that is known here."""
    base = next(_known(names), ProcessDied)
    module, _, name = kind.rpartition(".")
    space = {
        "__module__": module or "builtins",
        "__qualname__": name,
        "__str__": _message,
    }
    made: Any
    try:
        made = type(name, (FromElsewhere, base), space)
    except Exception:
        # A class that refuses subclasses.
        made = type(name, (FromElsewhere, Exception), space)
    kind_here: type[BaseException] = made
    return kind_here


def _message(error: BaseException) -> str:
    told: ErrorText = error.__dict__["told_elsewhere"]
    return told.message


def _known(names: tuple[tuple[str, str], ...]) -> Iterator[type[BaseException]]:
    for module_name, name in names:
        found = _look_up(module_name, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            yield found


def _look_up(module_name: str, name: str) -> Any:
    # rule:15 a name from a child is never imported
    found: Any = sys.modules.get(module_name)
    if found is None and module_name == main_name():
        # The child has imported what is the main program here.
        found = sys.modules["__main__"]
    if module_name == "builtins":
        found = builtins
    for part in name.split("."):
        if found is None:
            return None
        # Not `getattr`: a module may import what it is asked for.
        found = vars(found).get(part)
    return found
