"""What typed arguments and results add to a job function: the steps before its call, and the
codec of what it returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from asyncjobs.errors import RegistrationError, ResultUnavailable
from asyncjobs.jobs.annotations import Unresolved, evaluated, return_annotation
from asyncjobs.jobs.batches import result_of_item
from asyncjobs.jobs.binding import Binding
from asyncjobs.jobs.calling import CallPlan, Prepared, Step
from asyncjobs.jobs.converting import Codec, codec_of
from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.misfit import Misfit
from asyncjobs.jobs.parts import Unconvertible
from asyncjobs.jobs.ref import loaded
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.parameters import parameters_of

__all__ = ["Returns", "conversions", "ids_of"]


def conversions(binding: Binding) -> CallPlan:
    """The steps that make typed arguments of stored ones. Most functions need none."""
    if not binding.converts:
        return CallPlan()
    injected = binding.injected

    def convert(prepared: Prepared) -> None:
        """Raises UnfitArguments."""
        given = prepared.kwargs
        if injected is None:
            prepared.args, prepared.kwargs = binding.loaded(prepared.args, given)
            return
        context = given[injected]
        stored = {name: value for name, value in given.items() if name != injected}
        prepared.args, prepared.kwargs = binding.loaded(prepared.args, stored)
        prepared.kwargs[injected] = context

    async def load_rows(prepared: Prepared) -> None:
        args = list(prepared.args)
        # One after the other: the rows of one job often come through one connection.
        for place, value in enumerate(args):
            if binding.refers(place):
                args[place] = await loaded(value)
        for name, value in prepared.kwargs.items():
            if binding.refers(name):
                prepared.kwargs[name] = await loaded(value)
        prepared.args = args

    steps: list[Step] = [convert]
    if binding.has_refs:
        steps.append(load_rows)
    return CallPlan(steps)


def ids_of(load: Callable[..., Any]) -> Codec | None:
    """The codec of the ids that this loader of rows takes; None for text and numbers.

    Raises RegistrationError for a type that nobody knows to store.
    """
    first = next(iter(parameters_of(load).positional), None)
    if first is None:
        return None
    annotation = evaluated(load, first.annotation)
    if isinstance(annotation, Unresolved):
        return None
    try:
        found = codec_of(annotation, Types())
    except Unconvertible as error:
        raise RegistrationError(f"loader(load={load.__qualname__}): its id: {error}") from error
    if isinstance(found, Codec):
        return found
    return None


class HasTypes(Protocol):
    """What says how values are stored: the `Home` of a job function. Other settings mean that
    annotations have to be read again."""

    settings: AppSettings
    types: Types


class Returns:
    """What a job function says it returns. Read when it is first needed."""

    __slots__ = ("_codec", "_function", "_home", "_is_batch", "_name", "_read_for")

    def __init__(
        self, name: str, function: Callable[..., Any], home: HasTypes, *, is_batch: bool = False
    ) -> None:
        self._is_batch = is_batch
        self._name = name
        self._function = function
        self._home = home
        self._codec: Codec | None = None
        self._read_for: object = None

    @property
    def codec(self) -> Codec | None:
        """How a result is stored; None if as it is, because the annotation says nothing or nobody
        knows to store its type."""
        if self._read_for is not self._home.settings:
            self._codec = self._read()
            self._read_for = self._home.settings
        return self._codec

    def value(self, ref: JobRef, stored: Any) -> Any:
        """The kept result of this job as its type. Raises ResultUnavailable."""
        codec = self.codec
        if codec is None:
            return stored
        try:
            return codec.load(stored)
        except Misfit as misfit:
            raise ResultUnavailable(
                f"job {ref} succeeded, and its result does not fit -> {codec.text} of {self._name}"
                f"{misfit.place}; the stored value is in the attribute `stored` of this error",
                stored=stored,
            ) from None

    def _read(self) -> Codec | None:
        annotation = return_annotation(self._function)
        if self._is_batch:
            annotation = result_of_item(annotation)
        try:
            found = codec_of(annotation, self._home.types)
        except Unconvertible:
            return None
        # A row that the job returns would come back as its id alone.
        if isinstance(found, Codec) and not found.has_refs:
            return found
        return None
