"""Checks at enqueue that arguments fit a job function, before anything is stored."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from inspect import Parameter
from typing import Any, Final, TypeAlias, get_args

from asyncjobs.errors import ArgumentsError, EncodeError, RegistrationError, UnfitArguments
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.batches import BatchContext, check_consumer
from asyncjobs.jobs.context import INJECTED, JobContext
from asyncjobs.jobs.converting import Codec
from asyncjobs.jobs.dependency import needs_of
from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.typed import Place, Reading
from asyncjobs.model.codec import check_json, is_unicode
from asyncjobs.policy.parameters import Parameters, parameters_of
from asyncjobs.policy.redaction import Redaction

__all__ = ["Binding"]

Stored: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]

_PLAIN: Final[frozenset[type[Any]]] = frozenset({str, bool, type(None), int})
"""Types of arguments that JSON keeps as they are. The encoder refuses integers over 64 bits."""
_NO_LIMIT: Final = 2**31
"""More arguments than any call has."""


class Binding:
    """The parameters of a job function, read once at registration.

    Checks the arguments of each job. `inspect.Signature.bind` would cost ten times as much.
    `injected` is the name of the JobContext parameter, `needs` are the dependencies. `redaction`
    says which values must not appear in errors.
    """

    __slots__ = (
        "_injected",
        "_keywords",
        "_most",
        "_name",
        "_parameters",
        "_positional",
        "_reading",
        "_required",
        "_simple_from",
        "_spread_keywords",
        "_unkeyed",
        "are_plain",
        "filled",
        "needs",
        "redaction",
    )

    def __init__(self, name: str, function: Callable[..., Any], *, is_batch: bool = False) -> None:
        """`is_batch`: the function gets a list of items, and each call gives one.

        Raises RegistrationError for injected parameters that could not be filled, and for a batch
        consumer that takes more than its list.
        """
        parameters = parameters_of(function)
        self._name = name
        self.are_plain: Callable[[Any], bool] = _PLAIN.issuperset
        """Whether values of these types need no look: a tuple of the types of positional arguments,
        or the set of those of keyword arguments."""
        kind = BatchContext if is_batch else JobContext
        self._injected = _find_injected(name, parameters.all, kind)
        self.needs = needs_of(name, parameters.all)
        self.filled = frozenset(need.parameter for need in self.needs)
        """The parameters that the worker fills in."""
        if self._injected is not None:
            self.filled |= {self._injected}
        self._parameters = parameters.without(self.filled)
        if is_batch:
            self._parameters = check_consumer(name, self._parameters)
        self._reading = Reading(name, function, self._parameters, is_batch=is_batch)
        self.redaction = Redaction()
        shown = self._parameters.all
        positional = self._parameters.positional
        keyword_only = [p for p in shown if p.kind is p.KEYWORD_ONLY]
        # A wrapper may fill in what it passes on, so the caller need not give it.
        needed = [p for p in shown if p.default is p.empty and p.name not in parameters.passed]
        required = [p for p in positional if p in needed]
        keywords_needed = frozenset(p.name for p in keyword_only if p in needed)
        spread = any(p.kind is p.VAR_POSITIONAL for p in shown)
        self._positional = tuple(p.name for p in positional)
        self._unkeyed = frozenset(p.name for p in positional if p.kind is p.POSITIONAL_ONLY)
        self._keywords = frozenset(
            p.name for p in [*positional, *keyword_only] if p.kind is not p.POSITIONAL_ONLY
        )
        self._required = (*(p.name for p in required), *sorted(keywords_needed))
        self._spread_keywords = any(p.kind is p.VAR_KEYWORD for p in shown)
        self._most = len(positional)
        if spread:
            self._most = _NO_LIMIT
        # The fast path of `check`: with at least so many positional arguments and no keywords,
        # nothing can be missing. A keyword that has to be given rules the fast path out.
        self._simple_from = len(required)
        if keywords_needed:
            self._simple_from = _NO_LIMIT

    @property
    def parameters(self) -> Parameters:
        """What a call may give: all parameters but those that are filled in."""
        return self._parameters

    @property
    def injected(self) -> str | None:
        """The parameter that the worker fills in; None if there is none."""
        return self._injected

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises ArgumentsError naming the function, its signature and what is wrong."""
        # The fast path: nearly all jobs are enqueued with the right number of arguments.
        if not kwargs and self._simple_from <= len(args) <= self._most:
            return
        wrong = self._wrong(args, kwargs)
        if wrong:
            raise ArgumentsError(f"{self._signature()}: {wrong}")

    def read_types(self, types: Types, app: object, *, is_final: bool) -> None:
        """Read the annotations of the parameters, if that was not done for this app; see `Reading`.

        Raises RegistrationError if `is_final`, for a type that nobody knows to store.
        """
        if not self._reading.read(types, app, is_final=is_final):
            return
        typed = self._reading.typed
        if typed is None:
            self.are_plain = _PLAIN.issuperset
            return
        fewest = min(self._simple_from, self._most)
        # No set is one of these tuples. By its keyword an argument may be any one, so those are
        # looked at one by one.
        self.are_plain = typed.shapes(fewest).__contains__

    @property
    def converts(self) -> bool:
        """Whether some arguments are stored in another form than they are given."""
        typed = self._reading.typed
        return typed is not None and typed.converts

    @property
    def has_refs(self) -> bool:
        """Whether some arguments are references to rows."""
        typed = self._reading.typed
        return typed is not None and typed.has_refs

    def refers(self, place: Place) -> bool:
        """Whether the argument at this place is, or has, a reference to a row."""
        typed = self._reading.typed
        spec = None
        if typed is not None:
            spec = typed.spec(place)
        return isinstance(spec, Codec) and spec.has_refs

    @property
    def is_typed(self) -> bool:
        """Whether stored arguments have to be looked at before a call."""
        return self._reading.typed is not None

    def stored(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Stored:
        """The arguments as JSON. Raises ArgumentsError for a value of another type than the
        annotation says, and EncodeError for one that JSON would lose or change."""
        typed = self._reading.typed
        if typed is None:
            for place, value in _places(args, kwargs):
                self.check_value(place, value)
            return tuple(args), dict(kwargs)
        return (
            tuple(typed.stored(self, place, value) for place, value in enumerate(args)),
            {name: typed.stored(self, name, value) for name, value in kwargs.items()},
        )

    def loaded(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Stored:
        """Stored arguments as the function takes them. A reference is not loaded yet.

        Raises UnfitArguments naming what does not fit.
        """
        # Counted and named first, so that the error says more than that one cannot be converted.
        if wrong := self._wrong(args, kwargs):
            raise UnfitArguments(f"{self._signature()}: {wrong}")
        typed = self._reading.typed
        if typed is None:
            return tuple(args), dict(kwargs)
        return (
            tuple(typed.loaded(self, place, value) for place, value in enumerate(args)),
            {name: typed.loaded(self, name, value) for name, value in kwargs.items()},
        )

    def check_stored(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Check arguments that are given as JSON. Raises ArgumentsError and EncodeError."""
        self.check(args, kwargs)
        for place, value in _places(args, kwargs):
            self.check_value(place, value)
        self.loaded(args, kwargs)

    def check_value(self, place: Place, value: Any) -> None:
        """Raises EncodeError for an argument that JSON would lose or change."""
        path = self.path(place)
        try:
            check_json(value, path)
        except EncodeError:
            if not self.hides(place):
                raise
            # The error's own text quotes the number or the key that it refuses, and that is
            # a part of the sensitive value.
            raise EncodeError(
                f"{path}, which is sensitive, holds what JSON would lose or change; give "
                "text, numbers, lists, and dicts whose keys are text"
            ) from None

    def explain(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raises EncodeError for the argument that could not be encoded.

        Called only after the encoder has failed: the search costs more than the encoding.
        """
        for place, value in _places(args, kwargs):
            self.check_value(place, value)
            if not is_unicode(value):
                raise EncodeError(
                    f"{self.path(place)} has text that is not Unicode (a lone surrogate); write "
                    "text.encode('utf-8', 'replace').decode()"
                ) from None

    def hides(self, place: Place) -> bool:
        """Whether the argument at this place is sensitive."""
        if isinstance(place, int):
            return self.redaction.hides_position(place)
        return self.redaction.hides(place)

    def _signature(self) -> str:
        """The signature for errors. Defaults of sensitive parameters are hidden, others are cut.
        A parameter that a wrapper may fill in looks as if it had a default."""
        passed = self._parameters.passed
        parameters = [_in_signature(p, passed, self.redaction) for p in self._parameters.all]
        try:
            return f"{self._name}{inspect.Signature(parameters, __validate_parameters__=False)}"
        except Exception:
            # An annotation may be any object, and its `__repr__` may raise.
            return f"{self._name}({', '.join(p.name for p in parameters)})"

    def path(self, place: Place) -> str:
        """How errors name one argument, given its position or its keyword."""
        name = place
        if isinstance(place, int):
            name = f"*{place}"  # one of `*args`, which have no names
            if place < len(self._positional):
                name = self._positional[place]
        return f"{self._name}: argument {name!r:.100}"

    def _wrong(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        count = len(args)
        if self.filled and (taken := sorted(self.filled.intersection(kwargs))):
            return f"{taken[0]!r} is filled in by the worker; leave it out"
        if count > self._most:
            return f"takes at most {self._most} positional arguments, {count} were given"
        given = self._positional[:count]
        for name in given:
            if name in kwargs and name not in self._unkeyed:
                return f"{name!r:.100} was given twice, by position and by keyword"
        for name in kwargs:
            if name not in self._keywords and not self._spread_keywords:
                if name in self._unkeyed:
                    return f"{name!r:.100} can only be given by position"
                advice = ""
                if self._parameters.passed:
                    advice = "; if a decorator takes it, name it in the wrapper's parameters"
                return f"unexpected keyword argument {name!r:.100}{advice}"
        for name in self._required:
            if name not in given and (name not in kwargs or name in self._unkeyed):
                return f"missing argument {name!r}"
        return ""


def _in_signature(parameter: Parameter, passed: frozenset[str], redaction: Redaction) -> Parameter:
    if parameter.default is not parameter.empty:
        text = shown(parameter.default)
        if redaction.hides(parameter.name):
            text = "..."
        return parameter.replace(default=_Default(text))
    is_spread = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    if parameter.name in passed and not is_spread:
        return parameter.replace(default=_Default("..."))
    return parameter


class _Default:
    """Stands for a default in a signature, and shows this text for it."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _places(args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[tuple[Place, Any]]:
    """Each argument with its position or its keyword."""
    places: list[tuple[Place, Any]] = [*enumerate(args)]
    return [*places, *kwargs.items()]


def _find_injected(name: str, parameters: Sequence[Parameter], kind: type[Any]) -> str | None:
    found: str | None = None
    wanted = kind.__name__
    for parameter in parameters:
        # A job runs long after its registration. These mistakes would all show only then.
        is_marked = parameter.default is INJECTED
        if not is_marked and _names_context(parameter.annotation):
            raise RegistrationError(
                f"{name}: parameter {parameter.name!r} is a {wanted} that nobody would fill "
                f"in; write '*, {parameter.name}: {wanted} = INJECTED'"
            )
        if not is_marked:
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise RegistrationError(
                f"{name}: the injected parameter {parameter.name!r} must be keyword-only; "
                f"write '*, {parameter.name}: {wanted} = INJECTED' at the end"
            )
        if not _may_be_context(parameter.annotation, kind):
            raise RegistrationError(
                f"{name}: the injected parameter {parameter.name!r} is annotated "
                f"{parameter.annotation!r}; only a {wanted} can be injected"
            )
        if found is not None:
            raise RegistrationError(
                f"{name}: {found!r} and {parameter.name!r} are both INJECTED; one {wanted} "
                "is enough"
            )
        found = parameter.name
    return found


_CONTEXTS: Final = (JobContext, BatchContext)


def _names_context(annotation: Any) -> bool:
    """Whether an annotation names a context, alone or in a union such as `JobContext | None`."""
    if isinstance(annotation, str):
        return re.search(r"\b(Job|Batch)Context\b", annotation) is not None
    return annotation in _CONTEXTS or any(each in get_args(annotation) for each in _CONTEXTS)


def _may_be_context(annotation: Any, kind: type[Any]) -> bool:
    """False only if it certainly is another type. A text may be an alias of the context."""
    if isinstance(annotation, str):
        other = {each.__name__ for each in _CONTEXTS} - {kind.__name__}
        return annotation not in other
    return annotation in (Parameter.empty, Any, kind)
