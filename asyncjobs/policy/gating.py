"""The gate of each job of one job function: which limits it passes, and under which keys. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import orjson

from asyncjobs.errors import ArgumentsError, ConfigError, RegistrationError
from asyncjobs.guard.texts import shown
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse, WhenFull
from asyncjobs.policy.by_name import ByName
from asyncjobs.policy.limits import (
    MOST_SHARE,
    WHEN_FULL,
    Concurrency,
    Fair,
    Limit,
    LimitValue,
    kind_of,
)
from asyncjobs.policy.parameters import Parameters
from asyncjobs.policy.rates import check_burst, parse_rate, whole
from asyncjobs.policy.redaction import Mask, Redaction

__all__ = ["MAX_KEY", "Gating", "fixed_rule", "key_text", "limit_names", "rate_rule"]

MAX_KEY: Final = 100
"""The most characters of a key that is shown as it is. A longer one is stored as a hash."""
_NO_REDACTION: Final = Redaction()

Call = tuple[Sequence[Any], Mapping[str, Any]]


class _Use(NamedTuple):
    """One limit of the function. `rule`: the same for all calls; None if each call has its own."""

    name: str
    limit: Limit
    rule: LimitRule | None


class Gating:
    """Makes the gates of one job function's jobs. Never changes.

    `takes_values`: some function of the user's own gets the calls, with the values of their
    arguments.
    """

    __slots__ = ("_arguments", "_fair", "_function", "_redaction", "_uses", "_when_full")

    def __init__(self, limits: Sequence[LimitValue], function: str, parameters: Parameters) -> None:
        """Raises RegistrationError for a name that no call could give, and for two limits of one
        name."""
        self._function = function
        self._arguments = ByName(function, parameters)
        self._redaction = _NO_REDACTION
        for limit in limits:
            if isinstance(limit.by, tuple):
                self._arguments.check(limit.by, f"{type(limit).__name__} by")
        own = [limit for limit in limits if not isinstance(limit, Fair)]
        self._fair = next((limit for limit in limits if isinstance(limit, Fair)), None)
        names = limit_names(own, function)
        self._uses = tuple(
            _Use(name, limit, fixed_rule(limit)) for name, limit in zip(names, own, strict=True)
        )
        strategies = [limit.strategy for limit in own if isinstance(limit, Concurrency)]
        self._when_full: WhenFull = "wait"
        if strategies:
            self._when_full = WHEN_FULL[strategies[0]]

    def hiding(self, redaction: Redaction) -> Gating:
        """The same, with hashes in place of keys in which this rule hides something."""
        hiding = object.__new__(type(self))
        for name in self.__slots__:
            setattr(hiding, name, getattr(self, name))
        hiding._redaction = redaction
        return hiding

    @property
    def limits(self) -> dict[str, Limit]:
        """Its limits, by the names that they count under."""
        return {use.name: use.limit for use in self._uses}

    @property
    def takes_values(self) -> bool:
        """Whether a function of the user's own gets the call, with the values of its arguments."""
        makers: list[Any] = [use.limit.by for use in self._uses]
        for use in self._uses:
            if isinstance(use.limit, Concurrency):
                makers.append(use.limit.number)
            else:
                makers += (use.limit.rate, use.limit.weight)
        if self._fair is not None:
            makers += (self._fair.by, self._fair.weight)
        return any(callable(maker) for maker in makers)

    def gate(self, values: Call, stored: Call) -> Gate:
        """What a job of this call has to pass. `values`: the arguments as the caller has given
        them. `stored`: the same as JSON.

        Raises ArgumentsError when a key cannot be written as JSON, ConfigError for a number that
        cannot work, and what functions of the user raise.
        """
        # In the order of the code: a store counts them all, or none.
        uses = tuple(self._use(use, values, stored) for use in self._uses)
        fair = self._fair
        if fair is None:
            return Gate(uses, when_full=self._when_full)
        share = fair.weight
        if callable(share):
            asked = share(*values[0], **values[1])
            share = whole(asked, f"{self._function}: the weight of its Fair", MOST_SHARE)
        turn = self._key(fair.by, values, stored)
        return Gate(uses, turn, share, self._when_full)

    def _use(self, use: _Use, values: Call, stored: Call) -> LimitUse:
        limit = use.limit
        rule = use.rule
        key = self._key(limit.by, values, stored)
        is_own = rule is None
        if rule is None:
            rule = self._own_rule(use, values)
        # A running job has one permit, however large it is.
        if isinstance(limit, Concurrency):
            return LimitUse(use.name, key, rule, is_own)
        tokens = limit.weight
        if callable(tokens):
            asked = tokens(*values[0], **values[1])
            tokens = whole(asked, f"{self._function}: the weight of its limit {use.name}")
        # rule:39 a job that no rate would ever let pass is refused at its enqueue
        if tokens > rule.number:
            raise ConfigError(
                f"{self._function}: this call counts for {tokens:,} starts at its limit "
                f"{use.name}, and that lets {rule.number:,} start in its time, so the job would "
                "wait for ever; give it a smaller weight, or the limit a larger rate"
            )
        return LimitUse(use.name, key, rule, is_own, tokens)

    def _own_rule(self, use: _Use, values: Call) -> LimitRule:
        args, kwargs = values
        field = f"{self._function}: its limit {use.name}"
        limit = use.limit
        if isinstance(limit, Concurrency):
            number = limit.number
            if callable(number):
                number = number(*args, **kwargs)
            return LimitRule(LimitKind.CONCURRENCY, whole(number, field))
        rate = limit.rate
        if callable(rate):
            rate = rate(*args, **kwargs)
        if not isinstance(rate, str):
            raise ConfigError(f"{field}: {shown(rate)} is not a rate; return '100/minute'")
        return rate_rule(rate, limit.burst, field)

    def _key(self, by: Any, values: Call, stored: Call) -> str:
        """The text of a key; '' for a limit with one key only."""
        if by is None:
            return ""
        is_hidden = False
        if callable(by):
            chosen = by(*values[0], **values[1])
            # Several values, as several names are.
            parts = list(chosen) if isinstance(chosen, tuple) else [chosen]
        else:
            args, kwargs = stored
            _, known = self._arguments.values(args, kwargs)
            self._arguments.check_positions(by, len(args), kwargs, "it has a limit by")
            parts = [known.get(name) for name in by]
            # Its value may be too short to be searched for in a text.
            if self._redaction:
                is_hidden = any(self._redaction.hides(name) for name in by)
        try:
            text = key_text(parts)
        except ValueError as error:
            raise ArgumentsError(f"{self._function}: {error}") from error
        # rule:39 what is sensitive is no key that people read
        if is_hidden or (self._redaction and self._shows(text, stored)):
            return _hashed(text)
        return text

    def _shows(self, text: str, stored: Call) -> bool:
        """Whether a key contains a value that must not be shown."""
        return Mask(self._redaction, *stored).text(text) != text


def limit_names(limits: Sequence[Limit], function: str) -> list[str]:
    """The names that the limits of a job function count under.

    They stay the same when limits are put in another order, for numbers that an operator has set
    belong to them. Raises RegistrationError for two of one name.
    """
    names: list[str] = []
    for limit in limits:
        name = limit.name
        if name is None:
            # Without the number, which may change, and without the place in the list.
            parts = [function, kind_of(limit).value]
            if isinstance(limit.by, tuple):
                parts.append("+".join(limit.by))
            elif limit.by is not None:
                parts.append("by")
            name = ":".join(parts)
        if name in names:
            raise RegistrationError(
                f"{function} has two limits called {name!r}; give each of them a name of its own: "
                f"{type(limit).__name__}(..., name='...')"
            )
        names.append(name)
    return names


def fixed_rule(limit: Limit) -> LimitRule | None:
    """The rule of a limit; None if each call has its own."""
    if isinstance(limit, Concurrency):
        if callable(limit.number):
            return None
        return LimitRule(LimitKind.CONCURRENCY, limit.number)
    if callable(limit.rate):
        return None
    return rate_rule(limit.rate, limit.burst, "RateLimit")


@lru_cache(maxsize=1_024)
def rate_rule(rate: str, burst: int | None, field: str) -> LimitRule:
    """The rule of a rate. Raises ConfigError naming `field`."""
    number, period_ms = parse_rate(rate, field=field)
    most = check_burst(burst, number, period_ms, field=field)
    return LimitRule(LimitKind.RATE, number, period_ms, most)


def key_text(parts: Sequence[Any]) -> str:
    """The text of a key that these values make, of at most MAX_KEY characters.

    One that is longer, or that a terminal would not show as it is, is hashed. Raises ValueError for
    a value that JSON does not have.
    """
    # A tenant 5 and a tenant "5" are one: people write both in the same way.
    texts = [_part_text(part) for part in parts]
    text = ",".join(texts)
    is_clear = len(texts) == 1 or not any("," in each for each in texts)
    if (
        is_clear
        and len(text) <= MAX_KEY
        and text.isprintable()
        and text == text.strip()
        and not text.startswith("#")
    ):
        return text
    # A list in JSON: ("a,b", "c") and ("a", "b,c") are two keys.
    return _hashed("\0".join(f"{len(each)}:{each}" for each in texts))


def _part_text(part: Any) -> str:
    if type(part) is str:
        return part
    try:
        raw = orjson.dumps(part, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise ValueError(f"the key of its limit cannot be written as JSON: {error}") from error
    # Dates, UUIDs and members of enumerations are texts in JSON, and read best without quotes.
    if raw[:1] == b'"':
        return str(orjson.loads(raw))
    return raw.decode()


def _hashed(text: str) -> str:
    # Half of it would do against chance; but keys may come from requests.
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16)
    return f"#{digest.hexdigest()}"
