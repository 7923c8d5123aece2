"""Codecs: how the values of an annotated parameter are stored as JSON, and come back.

A codec is made once, when its function is registered. msgspec does the work. What it does not know
is added here: zones of times, serializers, references to rows. A codec reads back what it writes,
at each enqueue: a value that would come back as another one is refused.
"""

from __future__ import annotations

import typing
from datetime import datetime
from types import NoneType
from typing import Any, Final, NamedTuple

import msgspec

from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.misfit import Misfit, misfit_of
from asyncjobs.jobs.parts import Parts, is_union, name_of, unwrapped
from asyncjobs.jobs.shape import Shape, shape_of
from asyncjobs.jobs.zoned import with_zones

__all__ = ["Codec", "Plain", "codec_of"]

_TIMES: Final = (datetime,)
_PLAIN: Final = (str, int, float, bool, NoneType, list, dict)
_ANY_ITEMS: Final = {(list, (Any,)), (dict, (str, Any)), (dict, (Any, Any))}


class Plain(NamedTuple):
    """A parameter whose values JSON keeps as they are. `kinds`: the types of its values."""

    text: str
    kinds: tuple[type[Any], ...]

    def check(self, value: Any) -> None:
        """Raises Misfit. The encoder refuses what JSON would change, such as NaN or an Enum."""
        if isinstance(value, self.kinds) or (float in self.kinds and type(value) is int):
            return
        raise Misfit(self.text, value)


class Codec:
    """Stores the values of one type, and reads them again.

    `text`: the type, for errors. `has_refs`: whether what `load` returns has references to rows,
    which `Refs` has to load.
    """

    __slots__ = ("_box", "_dump", "_reading", "_shape", "_writing", "has_refs", "text")

    def __init__(self, annotation: Any, types: Types) -> None:
        """Raises Unconvertible."""
        self.text = name_of(annotation)
        parts = Parts(types)
        kind, self._dump = parts.of(annotation)
        self._shape: Shape = shape_of(kind, parts)
        self.has_refs = parts.has_refs
        # msgspec reads a class once, and any other type at each call.
        self._box: Any = msgspec.defstruct("Box", [("value", kind)])
        # Each option costs time, whether or not the type has what it is for.
        self._reading: dict[str, Any] = {}
        self._writing: dict[str, Any] = {"enc_hook": parts.foreign}
        if self._shape.revive is not None:
            self._reading["builtin_types"] = self._writing["builtin_types"] = _TIMES
        if self._shape.has_keys:
            self._reading["str_keys"] = self._writing["str_keys"] = True
        if self._shape.is_foreign:
            self._reading["dec_hook"] = parts.load
        if self._shape.has_sets:
            # Otherwise each process would write it in another order, and a unique key would differ.
            self._writing["order"] = "deterministic"

    def dump(self, value: Any) -> Any:
        """The value as JSON. Raises Misfit for one that does not fit or would come back changed."""
        if not isinstance(value, self._shape.kinds):
            raise Misfit(self.text, value)
        stored = self._written(value)
        back = self.load(stored)
        # rule:30 a value that would come back as another one is refused
        if not self._is_same(value, back, stored):
            raise Misfit(self.text, value, why="it would come back as another value")
        return stored

    def _written(self, value: Any) -> Any:
        try:
            if self._dump is not None:
                value = self._dump(value)
            stored = msgspec.to_builtins(value, **self._writing)
            if self._shape.has_rest:
                return with_zones(stored)
            return stored
        except Misfit:
            raise
        # A serializer of the user's own may raise anything, and so may a `__getattr__`.
        except Exception as error:
            raise Misfit(self.text, value, why=f"{type(error).__name__}: {error}") from error

    def load(self, stored: Any) -> Any:
        """The value that is stored so. Raises Misfit."""
        try:
            prepared = stored
            if self._shape.revive is not None:
                prepared = self._shape.revive(stored)
            return msgspec.convert({"value": prepared}, self._box, **self._reading).value
        except Exception as error:
            raise misfit_of(error, self.text, stored) from error

    def _is_same(self, value: Any, back: Any, stored: Any) -> bool:
        if not self._shape.is_comparable:
            return bool(self._written(back) == stored)
        try:
            return bool(back == value)
        except Exception:
            # An array compares item by item, for example.
            return False


def codec_of(annotation: Any, types: Types) -> Plain | Codec | None:
    """How values of this type are stored; None if there is nothing to convert or to check.

    Raises Unconvertible for a type that nobody knows to store.
    """
    bare = unwrapped(annotation)
    if bare in (Any, object) or isinstance(bare, typing.TypeVar):
        return None
    kinds = _plain_kinds(bare, types)
    if kinds is not None:
        return Plain(name_of(annotation), kinds)
    return Codec(annotation, types)


def _plain_kinds(annotation: Any, types: Types) -> tuple[type[Any], ...] | None:
    """The types of a union of plain ones; None if one of them is not plain."""
    if annotation is None:
        return (NoneType,)
    if annotation in _PLAIN:
        if types.given(annotation) is not None:
            return None
        return (annotation,)
    origin = typing.get_origin(annotation)
    args = typing.get_args(annotation)
    if origin in (list, dict) and (origin, tuple(unwrapped(each) for each in args)) in _ANY_ITEMS:
        return (origin,)
    if is_union(annotation):
        found = [_plain_kinds(unwrapped(each), types) for each in args]
        if all(each is not None for each in found):
            return tuple(kind for each in found if each is not None for kind in each)
    return None
