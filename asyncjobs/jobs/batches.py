"""Batch consumers: job functions that get a list, with one item of each job."""

from __future__ import annotations

import collections.abc
import functools
import operator
import typing
from collections.abc import Sequence
from inspect import Parameter
from typing import Any, Final

from asyncjobs.errors import BatchError, RegistrationError, UsageError
from asyncjobs.jobs.annotations import Unresolved
from asyncjobs.jobs.context import JobContext
from asyncjobs.jobs.parts import is_union, name_of
from asyncjobs.jobs.seat import StopReason
from asyncjobs.policy.parameters import Parameters
from asyncjobs.policy.retry import class_name

__all__ = [
    "BatchContext",
    "check_consumer",
    "item_of",
    "result_of_item",
    "results_of",
    "results_of_error",
    "take_item",
]

_LISTS: Final = (list, collections.abc.Sequence, collections.abc.Collection)


class BatchContext:
    """One call of a batch consumer, as its function sees it:
    `async def store(rows: list[Row], *, ctx: BatchContext = INJECTED)`.

    `items` are the contexts of its jobs, in the order of the list that the function got. Each has
    its own id, attempt and labels, reports its own progress, and says in `should_stop` whether its
    job was cancelled meanwhile: what the function does for that item does not count any more.
    """

    __slots__ = ("items",)

    def __init__(self, items: Sequence[JobContext]) -> None:
        self.items: tuple[JobContext, ...] = tuple(items)

    def __len__(self) -> int:
        return len(self.items)

    @property
    def should_stop(self) -> StopReason | None:
        """Why the whole batch should stop now; None while one of its jobs may go on. From any
        thread."""
        reason: StopReason | None = None
        for item in self.items:
            reason = item.should_stop
            if reason is None:
                return None
        return reason

    def __repr__(self) -> str:
        name = self.items[0].name if self.items else ""
        return f"<BatchContext {name} of {len(self.items)} jobs>"


def take_item(item: Any, /, **filled: Any) -> Any:
    """What the attempt of one job calls in place of the function: its item waits for others."""
    return item


def check_consumer(name: str, parameters: Parameters) -> Parameters:
    """The parameters of a call, which gives one item. `parameters`: those that nobody fills in.

    Raises RegistrationError if there is not one, that is given by position.
    """
    positional = parameters.positional
    if len(positional) != 1 or len(parameters.all) != 1:
        found = ", ".join(p.name for p in parameters.all) or "none"
        raise RegistrationError(
            f"{name} has batch=, so it takes one list with an item of each job, besides what is "
            f"filled in; its parameters are: {found}. Put what belongs together into one item, "
            "such as a dataclass"
        )
    (parameter,) = positional
    if parameter.default is not parameter.empty:
        raise RegistrationError(
            f"{name} has batch=, and its list {parameter.name!r} a default; each job has an item"
        )
    # By position alone: the name of the list is not one of an item.
    return Parameters([parameter.replace(kind=Parameter.POSITIONAL_ONLY)], parameters.passed)


def item_of(name: str, parameter: Parameter, annotation: Any) -> Any:
    """The type of the items of this list. Raises RegistrationError for what is no list."""
    if annotation is Any or isinstance(annotation, Unresolved):
        return annotation
    origin = typing.get_origin(annotation) or annotation
    if origin not in _LISTS:
        raise RegistrationError(
            f"{name} has batch=, so its parameter {parameter.name!r} must be a list of items, "
            f"not {name_of(annotation)}: list[{name_of(annotation)}]"
        )
    return next(iter(typing.get_args(annotation)), Any)


def result_of_item(annotation: Any) -> Any:
    """The type of one result, by the annotation of the list of results; Any if it says nothing."""
    origin = typing.get_origin(annotation)
    if origin not in _LISTS:
        return Any
    (result,) = typing.get_args(annotation) or (Any,)
    if not is_union(result):
        return result
    # What is no error. Those are never stored as results.
    kinds = [each for each in typing.get_args(result) if not _is_error(each)]
    if not kinds:
        return Any
    return functools.reduce(operator.or_, kinds)


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def results_of(name: str, value: Any, count: int) -> list[Any]:
    """The result of each item, by what the function has returned. An exception fails its item.

    Raises UsageError if that does not say how each item has ended.
    """
    if value is None:
        return [None] * count
    if type(value) not in (list, tuple):
        raise UsageError(
            f"{name} returned a {class_name(type(value))} for a batch of {count:,}; return None, "
            "or a list with the result or the exception of each item"
        )
    # rule:38 a list of results says for each item how it has ended
    if len(value) != count:
        raise UsageError(
            f"{name} returned {len(value):,} results for a batch of {count:,}; return None, or a "
            "list with the result or the exception of each item"
        )
    return list(value)


def results_of_error(name: str, error: BatchError, count: int) -> list[Any]:
    """The result of each item, by the error that names those that have failed.

    Raises UsageError if it names one that there is not.
    """
    results: list[Any] = [None] * count
    for place, each in error.errors.items():
        if place >= count:
            raise UsageError(
                f"{name} raised BatchError for the item {place} of a batch of {count:,}; positions "
                "begin at 0"
            ) from error
        results[place] = each
    return results
