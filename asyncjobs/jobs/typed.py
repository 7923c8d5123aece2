"""The annotated parameters of one job function: its arguments as JSON, and back.

Made at registration. A parameter has a codec, or only a check, or neither: then its values are
stored as they are, as long as JSON keeps them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from inspect import Parameter
from types import NoneType
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from asyncjobs.errors import ArgumentsError, EncodeError, RegistrationError, UnfitArguments
from asyncjobs.guard.untrusted import MAX_DEPTH
from asyncjobs.jobs.annotations import Unresolved, evaluated
from asyncjobs.jobs.batches import item_of
from asyncjobs.jobs.converting import Codec, Plain, codec_of
from asyncjobs.jobs.foreign import Types
from asyncjobs.jobs.misfit import Misfit
from asyncjobs.jobs.parts import Unconvertible, name_of
from asyncjobs.policy.parameters import Parameters
from asyncjobs.policy.redaction import Redaction

__all__ = [
    "Place",
    "Placeholder",
    "Places",
    "Reading",
    "Typed",
    "Written",
    "has_placeholder",
    "typed_of",
]

Place: TypeAlias = int | str
"""The position of an argument, or its keyword."""
Spec: TypeAlias = Plain | Codec | None

MOST_SHAPES: Final = 256
_KEPT: Final = (str, bool, NoneType, int)
"""The types that the encoder keeps as they are, whatever their value."""
_OF_KIND: Final[dict[type[Any], tuple[type[Any], ...]]] = {
    str: (str,),
    int: (int, bool),
    bool: (bool,),
    NoneType: (NoneType,),
    float: (int, bool),
}


class Places(Protocol):
    """What is known of the places of arguments: how errors name them, and what is sensitive."""

    redaction: Redaction

    def path(self, place: Place) -> str: ...

    def hides(self, place: Place) -> bool: ...

    def check_value(self, place: Place, value: Any) -> None:
        """Raises EncodeError for a value that JSON would lose or change."""
        ...


class Placeholder:
    """What stands in a call until its job is made, and is no value of any type."""

    __slots__ = ()


class Written:
    """An argument that is given as it is stored, and not as a value of its type. `is_whole`: else
    a part of it comes later, and only then it fits its type."""

    __slots__ = ("is_whole", "stored")

    def __init__(self, stored: Any, *, is_whole: bool = True) -> None:
        self.stored = stored
        self.is_whole = is_whole


def has_placeholder(values: Collection[Any], depth: int = 0) -> bool:
    """Whether one of these values is, or has, a placeholder. Looks into lists, tuples and dicts."""
    # A list may contain itself. It is refused where it is encoded.
    if depth > MAX_DEPTH:
        return False
    for value in values:
        if isinstance(value, Placeholder):
            return True
        if isinstance(value, dict) and has_placeholder(value.values(), depth + 1):
            return True
        if isinstance(value, list | tuple) and has_placeholder(value, depth + 1):
            return True
    return False


class Typed(NamedTuple):
    """The specs of the parameters. `spread` and `named`: those of `*args` and `**kwargs`.

    `unresolved`: the parameters whose annotations name what is not known.
    """

    by_place: tuple[Spec, ...]
    by_name: Mapping[str, Spec]
    spread: Spec
    named: Spec
    unresolved: Mapping[Place, Unresolved]
    converts: bool
    has_refs: bool

    def spec(self, place: Place) -> Spec:
        """The spec of the argument at this place."""
        if isinstance(place, str):
            return self.by_name.get(place, self.named)
        if place < len(self.by_place):
            return self.by_place[place]
        return self.spread

    def stored(self, places: Places, place: Place, value: Any) -> Any:
        """An argument as JSON. Raises ArgumentsError and EncodeError."""
        spec = self.spec(place)
        try:
            if isinstance(value, Written):
                if value.is_whole:
                    _load(spec, value.stored)
                value = value.stored
            elif isinstance(spec, Codec):
                value = spec.dump(value)
            elif spec is not None:
                # First what JSON would change, for that error says what to write.
                places.check_value(place, value)
                spec.check(value)
        except Misfit as misfit:
            raise ArgumentsError(_told(misfit, places, place)) from None
        try:
            places.check_value(place, value)
        except EncodeError as error:
            unresolved = self.unresolved.get(place)
            if unresolved is None:
                raise
            raise EncodeError(
                f"{error}. Its annotation {unresolved.text} is not converted, because "
                f"{unresolved.why}: import that name for the program, too, not only for type "
                "checkers"
            ) from None
        return value

    def loaded(self, places: Places, place: Place, value: Any) -> Any:
        """A stored argument as its type. Raises UnfitArguments."""
        try:
            return _load(self.spec(place), value)
        except Misfit as misfit:
            raise UnfitArguments(_told(misfit, places, place)) from None

    def shapes(self, fewest: int) -> frozenset[tuple[type[Any], ...]]:
        """The types of positional arguments with which a call has nothing to convert or to check.

        `fewest`: how many arguments a call has at least.
        """
        choices = [tuple(_kept(spec)) for spec in self.by_place]
        found = set[tuple[type[Any], ...]]()
        for count in range(fewest, len(choices) + 1):
            made = 1
            for each in choices[:count]:
                made *= len(each)
            # A function with many unions has too many of them. Its arguments are looked at one by
            # one.
            if len(found) + made > MOST_SHAPES:
                break
            found.update(itertools.product(*choices[:count]))
        return frozenset(found)


def _load(spec: Spec, value: Any) -> Any:
    if isinstance(spec, Codec):
        return spec.load(value)
    if spec is not None:
        spec.check(value)
    return value


def _kept(spec: Spec) -> Iterator[type[Any]]:
    if spec is None:
        yield from _KEPT
    elif isinstance(spec, Plain):
        yield from dict.fromkeys(each for kind in spec.kinds for each in _OF_KIND.get(kind, ()))


def _told(misfit: Misfit, places: Places, place: Place) -> str:
    redaction = None
    if not places.hides(place):
        redaction = places.redaction
    return f"{places.path(place)}{misfit.told(redaction)}"


def typed_of(
    name: str,
    function: Callable[..., Any],
    parameters: Parameters,
    types: Types,
    *,
    is_final: bool,
    is_batch: bool = False,
) -> Typed | None:
    """The specs of a job function; None if it has no annotation that says anything.

    `is_batch`: its parameter is a list, and a call gives one item of it.

    Raises RegistrationError for a type that nobody knows to store, but not before `is_final`: the
    app that includes a registry may bring its serializer.
    """
    specs: dict[str, Spec] = {}
    unresolved: dict[str, Unresolved] = {}
    foreign = set[str]()
    for parameter in parameters.all:
        annotation = _annotation(function, parameter)
        if is_batch:
            annotation = item_of(name, parameter, annotation)
        if isinstance(annotation, Unresolved):
            unresolved[parameter.name] = annotation
            continue
        try:
            specs[parameter.name] = codec_of(annotation, types)
        except Unconvertible as error:
            if parameter.name in parameters.passed:
                foreign.add(parameter.name)
            elif is_final:
                raise _refused(name, parameter, annotation, error) from error
            else:
                unresolved[parameter.name] = Unresolved(name_of(annotation), str(error))
    if not unresolved and all(spec is None for spec in specs.values()):
        return None
    return _placed(parameters, specs, unresolved, foreign)


def _annotation(function: Callable[..., Any], parameter: Parameter) -> Any:
    found = evaluated(function, parameter.annotation)
    # `**options: Unpack[Options]` names the type of all of them together.
    if parameter.kind is parameter.VAR_KEYWORD and "Unpack" in str(parameter.annotation):
        return Any
    return found


def _placed(
    parameters: Parameters,
    specs: dict[str, Spec],
    unresolved: dict[str, Unresolved],
    foreign: set[str],
) -> Typed:
    by_place: list[Spec] = []
    missing: dict[Place, Unresolved] = {}
    missing.update(unresolved.items())
    names = [p.name for p in parameters.positional]
    # A decorator that puts in what cannot be stored, such as a connection, moves all others to
    # earlier positions. Which of them is meant by a position is then not known.
    sure = len(names)
    if foreign:
        sure = next((n for n, each in enumerate(names) if each in parameters.passed), sure)
    for place, each in enumerate(names):
        spec = specs.get(each)
        # It may also put in what is plain. Then this would check the wrong one.
        if place >= sure or (isinstance(spec, Plain) and each in parameters.passed):
            spec = None
        by_place.append(spec)
        if each in unresolved:
            missing[place] = unresolved[each]
    spread = named = None
    for parameter in parameters.all:
        if parameter.kind is parameter.VAR_POSITIONAL:
            spread = specs.get(parameter.name)
        elif parameter.kind is parameter.VAR_KEYWORD:
            named = specs.get(parameter.name)
    variadic = {p.name for p in parameters.all if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    by_name = {
        p.name: specs.get(p.name)
        for p in parameters.all
        if p.name not in variadic and p.kind is not p.POSITIONAL_ONLY
    }
    codecs = [spec for spec in specs.values() if isinstance(spec, Codec)]
    has_refs = any(codec.has_refs for codec in codecs)
    return Typed(tuple(by_place), by_name, spread, named, missing, bool(codecs), has_refs)


def _refused(
    name: str, parameter: Parameter, annotation: Any, error: Unconvertible
) -> RegistrationError:
    kind = name_of(annotation)
    return RegistrationError(
        f"{name}: parameter {parameter.name!r} is a {kind}, and cannot be stored: {error}. Write "
        f"app.serializer({kind}, dump=..., load=...) before it, or Ref[{kind}] with app.loader() "
        "for a row of a database, or Any for plain data that is not checked"
    )


class Reading:
    """The annotations of one job function, read when that is needed: `typed` is the result."""

    __slots__ = ("_function", "_is_batch", "_name", "_parameters", "_read_for", "typed")

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        parameters: Parameters,
        *,
        is_batch: bool = False,
    ) -> None:
        self._is_batch = is_batch
        self._name = name
        self._function = function
        self._parameters = parameters
        self._read_for: object = None
        self.typed: Typed | None = None

    def read(self, types: Types, app: object, *, is_final: bool) -> bool:
        """Read them, with the serializers that are known by now; False if that was done before.

        `app`: whose settings hold now; None at the registration, when the classes below the
        function in its module are not known yet. Raises like `typed_of`.
        """
        if app is not None and self._read_for is app:
            return False
        self.typed = typed_of(
            self._name,
            self._function,
            self._parameters,
            types,
            is_final=is_final,
            is_batch=self._is_batch,
        )
        self._read_for = app
        return True
