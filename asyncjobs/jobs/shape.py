"""What a codec has to know of its type: which values it has, and where times stand in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias
from uuid import UUID

from msgspec import ValidationError, convert, inspect

from asyncjobs.jobs.parts import Parts, Unconvertible, compares, name_of
from asyncjobs.jobs.zoned import read_time

__all__ = ["Shape", "shape_of"]

Revive: TypeAlias = Callable[[Any], Any]

_VALUES: Final[dict[type[inspect.Type], tuple[type[Any], ...]]] = {
    inspect.NoneType: (type(None),),
    inspect.BoolType: (bool,),
    inspect.IntType: (int,),
    inspect.FloatType: (float, int),
    inspect.StrType: (str,),
    inspect.BytesType: (bytes,),
    inspect.ByteArrayType: (bytearray,),
    inspect.MemoryViewType: (memoryview,),
    inspect.DateTimeType: (datetime,),
    inspect.DateType: (date,),
    inspect.TimeType: (time,),
    inspect.TimeDeltaType: (timedelta,),
    inspect.UUIDType: (UUID,),
    inspect.DecimalType: (Decimal,),
    inspect.ListType: (list,),
    inspect.VarTupleType: (tuple,),
    inspect.TupleType: (tuple,),
    inspect.SetType: (set,),
    inspect.FrozenSetType: (frozenset,),
    inspect.DictType: (dict,),
    inspect.TypedDictType: (dict,),
}
_TUPLES: Final = (
    inspect.TupleType,
    inspect.VarTupleType,
    inspect.NamedTupleType,
    inspect.StructType,
)
_SETS: Final = (inspect.SetType, inspect.FrozenSetType)


class Shape(NamedTuple):
    """What is true of one type.

    `kinds`: the classes of its values. `revive`: makes times of their texts; None if there are no
    times. `has_rest`: whether msgspec leaves something of it that is no JSON: times and tuples.
    `has_keys`: whether it has dicts, whose keys need not be text. `is_foreign`: whether a
    serializer loads a part of it. `is_comparable`: whether `==` says that two values are the same.
    """

    kinds: tuple[type[Any], ...]
    revive: Revive | None
    has_rest: bool
    has_sets: bool
    has_keys: bool
    is_foreign: bool
    is_comparable: bool


def shape_of(kind: Any, parts: Parts) -> Shape:
    """The shape of a type, whose stand-ins `parts` has made. Raises Unconvertible."""
    try:
        top = inspect.type_info(kind)
    except Exception as error:
        # msgspec reads the fields of the user's own classes, so it may raise anything.
        raise Unconvertible(f"{error}"[:300]) from error
    infos = list(_within(top))
    is_comparable = parts.are_comparable
    for info in infos:
        _check(info, parts, is_top=info is top)
        own = getattr(info, "cls", None)
        if isinstance(info, inspect.CustomType) and (found := parts.serializer(info.cls)):
            own = found.kind
        if own is not None and not compares(own):
            is_comparable = False
    revive = None
    if any(isinstance(info, inspect.DateTimeType) for info in infos):
        revive = _Reviver().of(top)
    has_sets = any(isinstance(info, _SETS) for info in infos)
    return Shape(
        _kinds(top, parts),
        revive,
        revive is not None or any(isinstance(info, _TUPLES) for info in infos),
        has_sets,
        has_keys=any(isinstance(info, inspect.DictType) for info in infos),
        is_foreign=any(isinstance(info, inspect.CustomType) for info in infos),
        is_comparable=is_comparable,
    )


def _check(info: inspect.Type, parts: Parts, *, is_top: bool) -> None:
    """Raises Unconvertible for a type that cannot be stored."""
    if isinstance(info, inspect.CustomType):
        if parts.serializer(info.cls) is None:
            raise Unconvertible(f"nobody knows how to store a {name_of(info.cls)}")
        return
    if isinstance(info, inspect.DictType) and isinstance(info.key_type, inspect.DateTimeType):
        raise Unconvertible("a key of a dict cannot be a datetime, whose zone would be lost")
    kinds = (getattr(info, "cls", None), *_VALUES.get(type(info), ()))
    for kind in kinds:
        # Arguments and items of containers have stand-ins. This is a field of another class.
        if kind is not None and parts.types.given(kind) is not None:
            raise Unconvertible(
                f"it has a field that is a {name_of(kind)}, and there its serializer is not "
                "asked: give the class with that field a serializer, too"
            )


def _kinds(info: inspect.Type, parts: Parts) -> tuple[type[Any], ...]:
    """The classes that a value of this type may have."""
    if isinstance(info, inspect.UnionType):
        return tuple(kind for each in info.types for kind in _kinds(each, parts))
    if isinstance(info, inspect.LiteralType):
        return tuple({type(value) for value in info.values})
    if isinstance(info, inspect.CustomType):
        # A stand-in takes anything: what writes its values looks at their class.
        return (info.cls,)
    own = getattr(info, "cls", None)
    if own is not None and type(info) not in _VALUES:
        return (getattr(own, "__origin__", own),)
    return _VALUES.get(type(info), (object,))


def _within(top: inspect.Type) -> Iterator[inspect.Type]:
    """All types in a type, each once: a class may have fields of its own type."""
    seen = set[int]()
    waiting = [top]
    while waiting:
        info = waiting.pop()
        if id(info) in seen:
            continue
        seen.add(id(info))
        yield info
        waiting.extend(_children(info))


def _children(info: Any) -> list[Any]:
    found = [
        getattr(info, name)
        for name in ("item_type", "key_type", "value_type")
        if hasattr(info, name)
    ]
    for name in ("item_types", "types"):
        found.extend(getattr(info, name, ()))
    found.extend(field.type for field in getattr(info, "fields", ()))
    return found


def _has_times(info: inspect.Type) -> bool:
    return any(isinstance(each, inspect.DateTimeType) for each in _within(info))


class _Reviver:
    """Makes functions that replace the text of each time by the time.

    msgspec reads times by itself, but no names of zones.
    """

    def __init__(self) -> None:
        self._known: dict[int, Revive] = {}

    def of(self, info: Any) -> Revive:
        """The function for a type that has times. A type in itself has one function."""
        if id(info) in self._known:
            return self._known[id(info)]
        later: list[Revive] = []

        def not_made_yet(value: Any) -> Any:
            return later[0](value)

        self._known[id(info)] = not_made_yet
        later.append(self._made(info))
        return later[0]

    def _made(self, info: Any) -> Revive:
        if isinstance(info, inspect.DateTimeType):
            return _time
        if isinstance(info, inspect.UnionType):
            return self._of_union(info)
        if isinstance(info, inspect.DictType):
            return _items_of_dict(self.of(info.value_type))
        if isinstance(info, inspect.TupleType):
            return _by_place(self._each(info.item_types))
        if hasattr(info, "item_type"):
            return _items(self.of(info.item_type))
        fields = info.fields
        if isinstance(info, inspect.NamedTupleType):
            return _by_place(self._each([field.type for field in fields]))
        if getattr(info, "array_like", False):
            first = [None] if info.tag is not None else []
            return _by_place([*first, *self._each([field.type for field in fields])])
        found = self._each([field.type for field in fields])
        names = [field.encode_name for field in fields]
        return _by_name(dict(zip(names, found, strict=True)))

    def _each(self, infos: Any) -> list[Revive | None]:
        return [self.of(info) if _has_times(info) else None for info in infos]

    def _of_union(self, info: Any) -> Revive:
        # A union has one member at the most that is written as text, as a list, or as an object
        # without a tag. So the JSON says which member it is.
        tagged: dict[tuple[str, Any], Revive] = {}
        by_kind: dict[type[Any], Revive] = {}
        for each in info.types:
            if not _has_times(each):
                continue
            revive = self.of(each)
            if getattr(each, "tag", None) is not None and not each.array_like:
                tagged[each.tag_field, each.tag] = revive
            else:
                by_kind[_json_kind(each)] = revive

        def revived(value: Any) -> Any:
            kind = type(value)
            if kind is dict:
                for (field, tag), revive in tagged.items():
                    if value.get(field) == tag:
                        return revive(value)
            found = by_kind.get(kind)
            if found is None:
                return value
            return found(value)

        return revived


def _json_kind(info: inspect.Type) -> type[Any]:
    if isinstance(info, inspect.DateTimeType):
        return str
    if isinstance(info, (inspect.DictType, inspect.DataclassType, inspect.TypedDictType)):
        return dict
    if isinstance(info, inspect.StructType) and not info.array_like:
        return dict
    return list


def _time(value: Any) -> Any:
    # Beside ready times msgspec takes no text for one. A text that is none stays: its error says
    # where it stands.
    if not isinstance(value, str):
        return value
    if value.endswith("]"):
        return read_time(value)
    try:
        return convert(value, datetime)
    except ValidationError:
        return value


def _items(revive: Revive) -> Revive:
    def items(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [revive(item) for item in value]

    return items


def _items_of_dict(revive: Revive) -> Revive:
    def items(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {key: revive(item) for key, item in value.items()}

    return items


def _by_place(revives: list[Revive | None]) -> Revive:
    def places(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        each = [*revives, *[None] * len(value)]
        return [
            item if revive is None else revive(item)
            for revive, item in zip(each, value, strict=False)
        ]

    return places


def _by_name(revives: dict[str, Revive | None]) -> Revive:
    def fields(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {
            key: item if (revive := revives.get(key)) is None else revive(item)
            for key, item in value.items()
        }

    return fields
