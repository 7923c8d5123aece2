"""References to rows: `Ref[User]` stores the id of a row, and the job gets the row itself."""

from __future__ import annotations

from typing import Annotated, Any, Final, TypeVar, cast

from asyncjobs.errors import Discard, RowMissing
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.foreign import Loader, Serializer

__all__ = ["REF", "ById", "Ref", "by_id", "loaded", "serializer_of"]

M = TypeVar("M")


class _Reference:
    __slots__ = ()

    def __repr__(self) -> str:
        return "REF"


REF: Final = _Reference()

Ref = Annotated[M, REF]
"""Annotation of a parameter whose argument is stored by its id: `user: Ref[User]`. The worker loads
the row by `app.loader(User, ...)` when the job runs. To type checkers it is the model itself."""


class ById:
    """A row that is named by its id and not loaded."""

    __slots__ = ("id", "loader", "model")

    def __init__(self, model: type[Any], id: Any, loader: Loader | None = None) -> None:
        self.model = model
        self.id = id
        self.loader = loader

    def __repr__(self) -> str:
        return f"by_id({self.model.__name__}, {shown(self.id)})"


def by_id(model: type[M], id: Any) -> M:
    """Stands for the row with this id in the arguments of an enqueue: `by_id(User, 42)`.

    For a parameter that is a `Ref[User]`, where the row itself is not at hand. Nothing is loaded.
    To type checkers it is a `User`, and it can do nothing else than being enqueued.
    """
    return cast(M, ById(model, id))


def serializer_of(loader: Loader, model: type[Any]) -> Serializer:
    """How the rows of this model are stored: by their ids."""
    ids = loader.ids

    def dump(row: Any) -> Any:
        if isinstance(row, ById):
            if not issubclass(row.model, loader.model):
                raise ValueError(f"it is the id of a {row.model.__name__}")
            found = row.id
        else:
            found = loader.id(row)
        if found is None:
            raise ValueError("it has no id yet; save it first")
        if ids is not None:
            return ids.dump(found)
        if type(found) not in (str, int):
            kind = type(found).__name__
            raise ValueError(f"its id is a {kind}; annotate the parameter of load= with {kind}")
        return found

    def load(stored: Any) -> ById:
        if ids is not None:
            return ById(model, ids.load(stored), loader)
        return ById(model, stored, loader)

    return Serializer(model, dump, load)


async def loaded(value: Any) -> Any:
    """The value with the row in place of each reference.

    Raises Discard or RowMissing for a row that is gone, and what the loader raises.
    """
    if isinstance(value, ById):
        return await _row(value)
    if isinstance(value, list | tuple):
        rows = [await loaded(item) for item in value]
        return type(value)(rows)
    if isinstance(value, dict):
        return {key: await loaded(item) for key, item in value.items()}
    return value


async def _row(reference: ById) -> Any:
    loader = reference.loader
    assert loader is not None
    row = await loader.load(reference.id)
    if row is not None:
        return row
    # rule:30 a job whose row is gone is discarded, unless its loader says that it fails
    if loader.missing == "discard":
        raise Discard("gone")
    raise RowMissing(f"there is no {reference.model.__name__} with this id any more")
