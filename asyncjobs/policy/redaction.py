"""Hides the sensitive arguments of a job, and their values in any text. Pure.

Logs, errors, dead letters and the command line use one rule. It travels in the job's headers,
because commands show stored jobs without the code of the app.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import translate
from functools import lru_cache
from typing import Annotated, Any, Final, TypeVar, get_args

from asyncjobs.errors import ConfigError, RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import AnyEnvelope
from asyncjobs.model.headers import SENSITIVE_MARK, Headers
from asyncjobs.policy.masking import MASK, Places, mask_call, mask_text, mask_value
from asyncjobs.policy.parameters import Parameters, parameters_of

__all__ = [
    "Mask",
    "Redaction",
    "Secret",
    "check_patterns",
    "mask_of",
    "mask_of_call",
    "mask_of_raw",
]

T = TypeVar("T")

MOST_NAMES: Final = 256
MOST_CHARACTERS: Final = 256


class _Sensitive:
    __slots__ = ()

    def __repr__(self) -> str:
        return "SENSITIVE"


_SENSITIVE: Final = _Sensitive()

Secret = Annotated[T, _SENSITIVE]
"""Annotation of a parameter that is never shown: `password: Secret[str]`. To type checkers
it is the type itself."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """Which arguments of a job function are sensitive.

    These are the arguments at `positions`, all from position `spread` on, and all values under a
    key in `names`, at any depth. Names may be patterns with `*`, `?` and `[...]`. Upper and lower
    case do not matter.
    """

    positions: frozenset[int] = frozenset()
    names: tuple[str, ...] = ()
    spread: int | None = None

    @classmethod
    def of(
        cls,
        name: str,
        function: Callable[..., Any],
        sensitive: Sequence[str],
        filled: Collection[str],
    ) -> Redaction:
        """The rule of a job function. `filled`: the parameters that the worker fills in. Raises
        RegistrationError for a name that it does not have."""
        parameters = parameters_of(function).without(filled)
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.all)
        known = {p.name for p in parameters.all}
        names: list[str] = []
        for each in sensitive:
            tail = each.rpartition(".")[2]
            if each.partition(".")[0] not in known and not takes_any:
                raise RegistrationError(
                    f"{name}: sensitive={each!r} is not a parameter; it has "
                    f"{', '.join(sorted(known)) or 'none'}; a key inside of one is written "
                    "'parameter.key'"
                )
            names.append(tail)
        names += [p.name for p in parameters.all if _is_secret(p.annotation, function)]
        return cls._placed(parameters, tuple(dict.fromkeys(names)))

    @classmethod
    def _placed(cls, parameters: Parameters, names: tuple[str, ...]) -> Redaction:
        is_sensitive = _matcher(names)
        order = parameters.positional
        positions = {n for n, p in enumerate(order) if is_sensitive(p.name)}
        of_passed = [n for n in positions if order[n].name in parameters.passed]
        if of_passed:
            # The wrapper may insert arguments in front. A sensitive one is then given at an earlier
            # position, so hide those positions, too: too much is better than too little.
            first = next(n for n, p in enumerate(order) if p.name in parameters.passed)
            positions.update(range(first, max(of_passed)))
        every = parameters.all
        spreads = any(p.kind is p.VAR_POSITIONAL and is_sensitive(p.name) for p in every)
        # A sensitive `**card` hides everything that it may hold.
        if any(p.kind is p.VAR_KEYWORD and is_sensitive(p.name) for p in every):
            names = ("*",)
        spread: int | None = None
        if spreads:
            # `*args` stand behind the named ones, and a wrapper may have inserted each that it
            # passes on.
            spread = len(order) - len(parameters.passed & {p.name for p in order})
        return cls(frozenset(positions), names, spread)

    def with_patterns(self, patterns: tuple[str, ...], function: Callable[..., Any]) -> Redaction:
        """This rule and the patterns of the app."""
        if not patterns:
            return self
        return self | self._placed(parameters_of(function), patterns)

    def __or__(self, other: Redaction) -> Redaction:
        spreads = [each.spread for each in (self, other) if each.spread is not None]
        return Redaction(
            self.positions | other.positions,
            tuple(dict.fromkeys((*self.names, *other.names))),
            min(spreads, default=None),
        )

    def __bool__(self) -> bool:
        return bool(self.positions or self.names) or self.spread is not None

    def stored(self) -> dict[str, Any]:
        """The rule as it travels in a job's headers."""
        fields: dict[str, Any] = {"names": list(self.names)}
        if self.positions:
            fields["at"] = sorted(self.positions)
        if self.spread is not None:
            fields["from"] = self.spread
        return fields

    @classmethod
    def read(cls, headers: Headers) -> Redaction:
        """The rule in these headers. A rule that cannot be read hides everything."""
        if not headers.is_sensitive:
            return _NOTHING
        fields = headers.sensitive
        # A rule from a later release, or a broken one. Hiding too much is the safe mistake.
        if not isinstance(fields, dict):
            return _EVERYTHING
        names = fields.get("names")
        positions = fields.get("at", [])
        spread = fields.get("from")
        if not (
            isinstance(names, list)
            and len(names) <= MOST_NAMES
            and all(isinstance(n, str) and len(n) <= MOST_CHARACTERS for n in names)
            and isinstance(positions, list)
            and all(type(n) is int for n in positions)
            and (spread is None or type(spread) is int)
        ):
            return _EVERYTHING
        return cls(frozenset(positions), tuple(names), spread)

    def hides(self, name: str) -> bool:
        """Whether a field or keyword of this name is sensitive."""
        return _matcher(self.names)(name)

    def hides_position(self, position: int) -> bool:
        """Whether the argument at this position is sensitive."""
        spread = self.spread
        return position in self.positions or (spread is not None and position >= spread)


_NOTHING: Final = Redaction()
_EVERYTHING: Final = Redaction(names=("*",), spread=0)


class Mask:
    """A rule and the values that it hides in one job."""

    __slots__ = ("_args", "_kwargs", "_places", "redaction")

    def __init__(
        self,
        redaction: Redaction,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        self.redaction = redaction
        self._args = args
        self._kwargs = kwargs or {}
        self._places = Places(redaction.hides, redaction.hides_position, self._args, self._kwargs)

    def arguments(self) -> tuple[list[Any], dict[str, Any]]:
        """The job's arguments, with masks for sensitive values."""
        return mask_call(self._places, self._args, self._kwargs)

    def text(self, text: str, last: int | None = None) -> str:
        """`text` without sensitive values. Of a long text, only the `last` characters."""
        return mask_text(self._places, text, last)

    def value(self, value: Any, name: str = "") -> Any:
        """A value as a field of this name may show it."""
        if self.redaction.hides(name):
            return MASK
        return mask_value(self._places, value)


class JointMask(Mask):
    """What to hide of one job in texts that may tell values of others: those of its batch."""

    __slots__ = ("_all",)

    def __init__(self, own: Mask, every: Mask) -> None:
        super().__init__(own.redaction, own._args, own._kwargs)
        self._all = every

    def text(self, text: str, last: int | None = None) -> str:
        return self._all.text(text, last)

    def value(self, value: Any, name: str = "") -> Any:
        return self._all.value(value, name)


def joint_mask(masks: Sequence[Mask]) -> Mask:
    """What to hide of any of these jobs, each of which has one positional argument."""
    rule = masks[0].redaction
    for mask in masks[1:]:
        rule |= mask.redaction
    if rule.hides_position(0):
        rule = replace(rule, spread=0)
    return Mask(rule, [value for mask in masks for value in mask._args])


def mask_of(redaction: Redaction, raw: bytes) -> Mask | None:
    """What to hide of a stored job, by `redaction` and by the rule in its headers; None if nothing.

    Decodes the envelope again, because the job may have changed the arguments that it got.
    """
    if not redaction and SENSITIVE_MARK not in raw:
        return None
    try:
        envelope = AnyEnvelope.decode(raw)
    except BadRecord:
        if not redaction:
            return None
        return Mask(_EVERYTHING)
    rule = redaction | Redaction.read(envelope.headers)
    if not rule:
        return None
    return Mask(rule, *envelope.call())


def mask_of_call(headers: Headers, args: list[Any], kwargs: dict[str, Any]) -> Mask | None:
    """What to hide of a job whose envelope is decoded already."""
    rule = Redaction.read(headers)
    if not rule:
        return None
    return Mask(rule, args, kwargs)


def mask_of_raw(raw: bytes) -> Mask | None:
    """The same for bytes that may not be an envelope. Raises ValueError if their rule cannot be
    read: then nothing of them may be shown."""
    mask = mask_of(_NOTHING, raw)
    if mask is None and SENSITIVE_MARK in raw:
        raise ValueError("its rule for sensitive values cannot be read")
    return mask


def check_patterns(given: Iterable[str], *, field: str = "redact") -> tuple[str, ...]:
    """The names and patterns, checked. Raises ConfigError naming `field`."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise ConfigError(f"{field}={shown(given)} must be a list of names: [{shown(given)}]")
    texts = tuple(given)
    for text in texts:
        if not isinstance(text, str) or not 1 <= len(text) <= MOST_CHARACTERS:
            raise ConfigError(f"{field} has {shown(text)}; give names of 1 to {MOST_CHARACTERS}")
    if len(texts) > MOST_NAMES:
        raise ConfigError(f"{field} has {len(texts)} names; give at most {MOST_NAMES}, or patterns")
    return texts


@lru_cache(maxsize=256)
def _matcher(names: tuple[str, ...]) -> Callable[[str], bool]:
    if not names:
        return lambda name: False
    found = re.compile("|".join(translate(name.casefold()) for name in names))
    return lambda name: found.match(name.casefold()) is not None


class _Known(dict[str, Any]):
    """A module's names and Python's built-ins. Names that only type checkers import are Any."""

    def __missing__(self, name: str) -> Any:
        return getattr(builtins, name, Any)


def _is_secret(annotation: Any, function: Callable[..., Any]) -> bool:
    if isinstance(annotation, str):
        if re.search(r"\bSecret\b", annotation):
            return True
        try:
            # The user's own annotation, in the user's own module, as `inspect` would do.
            names = getattr(function, "__globals__", {})
            annotation = eval(annotation, names, _Known(names))
        except Exception:
            # It is no expression of types at all.
            return False
    if _SENSITIVE in getattr(annotation, "__metadata__", ()):
        return True
    return any(_is_secret(part, function) for part in get_args(annotation))
