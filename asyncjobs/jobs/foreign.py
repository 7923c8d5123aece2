"""How values of foreign types are stored: serializers, loaders of rows, and what Python brings.

A registry has a `Types`, which asks the one of the registry above it. Pydantic models are found by
their own methods, so pydantic is never imported here.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias
from zoneinfo import ZoneInfo

import orjson

from asyncjobs.errors import RegistrationError
from asyncjobs.guard.texts import shown

__all__ = ["Ids", "Loader", "Missing", "Serializer", "Types"]

Missing: TypeAlias = Literal["discard", "fail"]
"""What becomes of a job whose row is gone."""


class Serializer(NamedTuple):
    """How the values of one type are stored: `load(dump(value)) == value`."""

    kind: type[Any]
    dump: Callable[[Any], Any]
    load: Callable[[Any], Any]


class Ids(Protocol):
    """How ids are stored that are no plain text and no plain number."""

    def dump(self, value: Any, /) -> Any: ...

    def load(self, stored: Any, /) -> Any: ...


class Loader(NamedTuple):
    """How rows of one model are loaded by their ids; see `JobRegistry.loader`."""

    model: type[Any]
    load: Callable[[Any], Awaitable[Any]]
    id: Callable[[Any], Any]
    ids: Ids | None
    missing: Missing


_OF_PYTHON: Final = {
    each.kind: each
    for each in (
        *(
            Serializer(kind, str, kind)
            for kind in (PurePath, PurePosixPath, PureWindowsPath, Path, PosixPath)
        ),
        Serializer(ZoneInfo, str, ZoneInfo),
    )
}


class Types:
    """The serializers and loaders of one registry."""

    __slots__ = ("_loaders", "_serializers", "parent")

    def __init__(self) -> None:
        self._serializers: dict[type[Any], Serializer] = {}
        self._loaders: dict[type[Any], Loader] = {}
        self.parent: Types | None = None
        """Those of the registry that includes this one."""

    def add_serializer(self, kind: Any, dump: Any, load: Any) -> None:
        """Raises RegistrationError."""
        _check_class("serializer", kind)
        if not callable(dump) or not callable(load):
            raise RegistrationError(
                f"serializer({kind.__qualname__}): dump= and load= must be functions: "
                "dump(value) returns JSON, load(json) the value"
            )
        if inspect.iscoroutinefunction(dump) or inspect.iscoroutinefunction(load):
            raise RegistrationError(
                f"serializer({kind.__qualname__}): dump= and load= run at each enqueue and must "
                "not be async; write app.loader(...) for what has to be fetched"
            )
        self._serializers[kind] = Serializer(kind, dump, load)

    def add_loader(self, model: Any, load: Any, id: Any, ids: Ids | None, missing: Any) -> None:
        """Raises RegistrationError."""
        _check_class("loader", model)
        if not inspect.iscoroutinefunction(load):
            raise RegistrationError(
                f"loader({model.__qualname__}): load= must be an async function that gets an id "
                "and returns the row, or None if there is none"
            )
        if not callable(id):
            raise RegistrationError(
                f"loader({model.__qualname__}): id= must be a function that gets a row and "
                "returns its id"
            )
        if missing not in ("discard", "fail"):
            raise RegistrationError(
                f"loader({model.__qualname__}): missing={shown(missing)} must be 'discard' or "
                "'fail'"
            )
        self._loaders[model] = Loader(model, load, id, ids, missing)

    def given(self, kind: Any) -> Serializer | None:
        """The serializer that somebody has given for this very type."""
        found = None
        if isinstance(kind, type):
            found = self._serializers.get(kind)
        if found is None and self.parent is not None:
            return self.parent.given(kind)
        return found

    def foreign(self, kind: Any) -> Serializer | None:
        """How to store a type that is none of the known ones; None if nobody knows."""
        return self.given(kind) or _OF_PYTHON.get(kind) or _of_pydantic(kind)

    def loader(self, model: Any) -> Loader | None:
        """The loader of this model, or of the nearest class above it."""
        for each in getattr(model, "__mro__", ()):
            if (found := self._own_loader(each)) is not None:
                return found
        return None

    def _own_loader(self, model: type[Any]) -> Loader | None:
        found = self._loaders.get(model)
        if found is None and self.parent is not None:
            return self.parent._own_loader(model)
        return found


def _check_class(what: str, kind: Any) -> None:
    if not isinstance(kind, type):
        raise RegistrationError(f"{what}() takes a class first, not {shown(kind)}")


def _of_pydantic(kind: Any) -> Serializer | None:
    # By what the class has, for an import of pydantic would cost each program that does not use it.
    if not hasattr(kind, "__pydantic_validator__") or not hasattr(kind, "model_validate_json"):
        return None

    def dump(value: Any) -> Any:
        return value.model_dump(mode="json")

    def load(stored: Any) -> Any:
        # As JSON, so that a strict model takes dates and enumerations from text. By the names of
        # its fields, because `dump` has written those and not their aliases.
        return kind.model_validate_json(orjson.dumps(stored), by_alias=False, by_name=True)

    return Serializer(kind, dump, load)
