"""The parts of an annotation that msgspec is not asked about: serializers and references to rows.

Each such part is replaced by a class of its own, a stand-in, which msgspec hands to `Parts.load`.
"""

from __future__ import annotations

import functools
import operator
import typing
from collections.abc import Callable
from inspect import formatannotation
from types import UnionType
from typing import Annotated, Any, Final, TypeAlias

import msgspec
import orjson

from asyncjobs.jobs.foreign import Serializer, Types
from asyncjobs.jobs.misfit import Misfit
from asyncjobs.jobs.ref import REF, ById, serializer_of

__all__ = ["Parts", "Unconvertible", "compares", "is_union", "name_of", "unwrapped"]

Dump: TypeAlias = Callable[[Any], Any]

_MOST_ALIASES: Final = 100


class Unconvertible(Exception):
    """Nobody knows how to store a type. The text says which one, and why."""


class _StandIn(type):
    """A class that takes any object for its instance: the serializer says what it loads."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return True


def name_of(annotation: Any) -> str:
    """An annotation as the user has written it."""
    if typing.get_origin(annotation) is Annotated and REF in annotation.__metadata__:
        return f"Ref[{name_of(typing.get_args(annotation)[0])}]"
    return formatannotation(annotation).removeprefix("typing.")


def unwrapped(annotation: Any) -> Any:
    """The annotation without what only others read: `Annotated`, `NewType` and aliases."""
    for _ in range(_MOST_ALIASES):
        if typing.get_origin(annotation) is Annotated:
            if any(
                isinstance(each, msgspec.Meta) or each is REF for each in annotation.__metadata__
            ):
                return annotation
            annotation = annotation.__origin__
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            break
    if annotation is typing.LiteralString:
        return str
    return annotation


def compares(kind: Any) -> bool:
    """Whether two of its values may be equal that are not one object."""
    return getattr(kind, "__eq__", None) is not vars(object)["__eq__"]


def is_union(annotation: Any) -> bool:
    """Whether it is `X | Y`, `Union[X, Y]` or `Optional[X]`."""
    return typing.get_origin(annotation) in (typing.Union, UnionType)


class Parts:
    """The stand-ins of one annotation.

    `has_refs`: one of them is a reference. `are_comparable`: whether `==` says that two of their
    values are the same.
    """

    def __init__(self, types: Types) -> None:
        self.types = types
        self.has_refs = False
        self.are_comparable = True
        self._stand_ins: dict[Any, Serializer] = {}

    def serializer(self, kind: Any) -> Serializer | None:
        """How a class is stored that msgspec does not know: by a stand-in, or wherever it is."""
        return self._stand_ins.get(kind) or self.types.foreign(kind)

    def load(self, kind: Any, stored: Any) -> Any:
        """The value of such a class, for msgspec."""
        serializer = self.serializer(kind)
        if serializer is None:
            raise TypeError(f"nobody knows how to load a {kind.__name__}")
        return serializer.load(stored)

    def foreign(self, value: Any) -> Any:
        """A value as JSON whose class msgspec does not know."""
        for kind in type(value).__mro__:
            if (serializer := self.types.foreign(kind)) is not None:
                return serializer.dump(value)
        raise TypeError(f"it holds a {type(value).__qualname__:.100}, which JSON does not have")

    def of(self, annotation: Any) -> tuple[Any, Dump | None]:
        """The annotation with stand-ins, and what writes their values; None if there are none.

        Raises Unconvertible.
        """
        bare = unwrapped(annotation)
        if bare is object:
            return Any, None
        origin = typing.get_origin(bare)
        if origin is Annotated:
            return self._annotated(bare)
        if (given := self.types.given(bare)) is not None:
            return self._stand_in(given)
        if origin is None or origin is typing.Literal:
            return bare, None
        return self._generic(bare, origin, typing.get_args(bare))

    def _annotated(self, annotation: Any) -> tuple[Any, Dump | None]:
        inner = annotation.__origin__
        if REF in annotation.__metadata__:
            return self._reference(inner)
        kind, dump = self.of(inner)
        limits = [each for each in annotation.__metadata__ if isinstance(each, msgspec.Meta)]
        return Annotated[(kind, *limits)], dump

    def _reference(self, model: Any) -> tuple[Any, Dump | None]:
        loader = self.types.loader(model)
        if loader is None:
            raise Unconvertible(
                f"nobody knows how to load a {name_of(model)} by its id; write "
                f"app.loader({name_of(model)}, load=..., id=...) before the job function"
            )
        self.has_refs = True
        self.are_comparable = False
        hint = f"for a row that is not at hand, write by_id({name_of(model)}, its_id)"
        return self._stand_in(serializer_of(loader, model), hint)

    def _stand_in(self, serializer: Serializer, hint: str = "") -> tuple[Any, Dump]:
        stand_in = _StandIn(serializer.kind.__name__, (), {})
        self._stand_ins[stand_in] = serializer
        if not compares(serializer.kind):
            self.are_comparable = False

        def dump(value: Any) -> Any:
            if not isinstance(value, (serializer.kind, ById)):
                raise Misfit(name_of(serializer.kind), value, why=hint)
            return serializer.dump(value)

        return stand_in, dump

    def _generic(
        self, annotation: Any, origin: Any, args: tuple[Any, ...]
    ) -> tuple[Any, Dump | None]:
        found = [self.of(each) if each is not Ellipsis else (each, None) for each in args]
        kinds = tuple(kind for kind, _ in found)
        dumps = [dump for _, dump in found]
        if all(one is other for one, other in zip(kinds, args, strict=True)):
            return annotation, None
        if is_union(annotation):
            return functools.reduce(operator.or_, kinds), _of_union(dumps)
        if origin is dict and dumps[0] is not None:
            raise Unconvertible("a key of a dict has to be plain; its serializer is not asked")
        try:
            generic: Any = origin
            again = generic[kinds]
        except TypeError:
            again = annotation
        if not any(dumps):
            return again, None
        return again, _of_container(origin, dumps, is_fixed=Ellipsis not in args)


def _of_union(dumps: list[Dump | None]) -> Dump | None:
    # msgspec lets nothing but None stand beside such a part.
    dump = next((each for each in dumps if each is not None), None)
    if dump is None:
        return None

    def optional(value: Any) -> Any:
        if value is None:
            return None
        return dump(value)

    return optional


def _of_container(origin: Any, dumps: list[Dump | None], *, is_fixed: bool) -> Dump:
    def items(value: Any) -> Any:
        dump = dumps[-1] or dumps[0]
        if isinstance(value, dict):
            assert dump is not None
            return {key: dump(item) for key, item in value.items()}
        if origin is tuple and is_fixed:
            each = [part or _as_it_is for part in dumps]
            return tuple(part(item) for part, item in zip(each, value, strict=True))
        assert dump is not None
        written = [dump(item) for item in value]
        if isinstance(value, set | frozenset):
            # A set has no order, and what is stored needs one that each process writes.
            written.sort(key=orjson.dumps)
        return written

    return items


def _as_it_is(value: Any) -> Any:
    return value
