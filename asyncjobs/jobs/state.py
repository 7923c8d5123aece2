"""The typed state of a job, kept from one attempt to the next."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Callable
from typing import Any, TypeVar, cast

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.cursors import from_tagged, to_tagged
from asyncjobs.jobs.steps import Steps
from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.notes import STATE

__all__ = ["KeptState"]

S = TypeVar("S")


class KeptState:
    """The state of one job: loaded once in an attempt, written when it has changed."""

    def __init__(self, steps: Steps, function: str) -> None:
        self._steps = steps
        self._function = function
        self._kind: type[Any] | None = None
        self._value: Any = None
        self._stored = b""

    async def get(self, kind: type[S]) -> S:
        """The state as this type. Raises UsageError."""
        if self._kind is None:
            raw = (await self._steps.book.read()).get(STATE)
            # Two tasks of one job may both come first, and have to get the same object.
            if self._kind is None:
                self._value = self._new(kind) if raw is None else self._read(kind, raw)
                self._kind = kind
                self._stored = self._written()
                self._steps.note_state = self.note
        if self._kind is not kind:
            raise UsageError(
                f"{self._function} asks for its state as {kind.__qualname__}, and has it as "
                f"{self._kind.__qualname__}; a job has one state"
            )
        return cast(S, self._value)

    def note(self) -> None:
        """Note the state, if it has changed since it was read or noted."""
        if self._kind is None:
            return
        written = self._written()
        if written != self._stored:
            self._steps.book.note(STATE, written, "the state", forward=False)
            self._stored = written

    def _written(self) -> bytes:
        what = f"the state of {self._steps.ref}"
        fields = {
            name: to_tagged(value, f"{name} in {what}")
            for name, value in _fields_of(self._value).items()
        }
        return to_json(fields)

    def _new(self, kind: type[S]) -> S:
        try:
            return kind()
        except TypeError as error:
            raise UsageError(
                f"the state {kind.__qualname__} of {self._function} cannot be made without "
                f"arguments, so a first attempt has none: {error}; give each field a default"
            ) from error

    def _read(self, kind: type[S], raw: bytes) -> S:
        try:
            found = {name: from_tagged(value) for name, value in read_fields(raw).items()}
        except BadRecord as error:
            raise BadRecord(f"the state of {self._steps.ref} cannot be read: {error}") from None
        made = self._new(kind)
        # A deploy may have added fields, which have their defaults, and removed others.
        known = {name: found.get(name, value) for name, value in _fields_of(made).items()}
        if typing.is_typeddict(kind):
            return cast(S, found)
        return _maker(kind)(**known)


def _fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, an attrs class, a Struct, a pydantic model or a TypedDict."""
    if type(value) is dict:
        return dict(value)
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind) if field.init]
    elif hasattr(kind, "__struct_fields__"):
        names = list(kind.__struct_fields__)
    elif hasattr(kind, "__attrs_attrs__"):
        names = [field.name for field in kind.__attrs_attrs__]
    elif hasattr(kind, "model_fields"):
        names = list(kind.model_fields)
    else:
        raise UsageError(
            f"a state is a dataclass, an attrs class, a msgspec Struct, a pydantic model or a "
            f"TypedDict, not {shown(kind)}"
        )
    return {name: getattr(value, name) for name in names}


def _maker(kind: type[S]) -> Callable[..., S]:
    """Makes one from its fields."""
    aliases = {
        field.name: field.alias for field in getattr(kind, "__attrs_attrs__", ()) if field.alias
    }

    def make(**fields: Any) -> S:
        # attrs takes a private field under another name.
        return kind(**{aliases.get(name, name): value for name, value in fields.items()})

    return make
