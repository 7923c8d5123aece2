"""The limits of one queue in memory: their rules, and who has passed which key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from asyncjobs.errors import UsageError
from asyncjobs.model.terms import LimitKind, LimitRule, LimitUse
from asyncjobs.store.memory import lanes
from asyncjobs.store.memory.lanes import KeyName
from asyncjobs.store.memory.rates import bounded, charged, forgiven, opens_ms, starts_left
from asyncjobs.store.memory.stored import StoredJob

__all__ = ["LimitKey", "LimitKeys", "Use"]

LimitKey: TypeAlias = lanes.LimitKey[StoredJob]
Use: TypeAlias = lanes.Use[StoredJob]

NEVER: LimitRule = LimitRule(LimitKind.CONCURRENCY, 0)


class LimitKeys:
    """Owns the keys that are in use, and the rules of all limits.

    A rule of an operator comes before that of code, and among those of one of them that of a key
    before that of its limit.
    """

    def __init__(self) -> None:
        self._keys: dict[KeyName, LimitKey] = {}
        self._code: dict[str, LimitRule] = {}
        self._own: dict[KeyName, LimitRule] = {}
        self._set: dict[tuple[str, str | None], LimitRule] = {}

    # Rules

    def rule(self, name: KeyName) -> LimitRule:
        """The rule that holds for a key now."""
        limit, key = name
        code = self._code.get(limit, NEVER)
        by_code = self._own.get(name, code)
        for place in ((limit, key), (limit, None)):
            # rule:35 the rule of an operator comes before that of code, in memory
            found = self._set.get(place)
            # One of another kind was set for a limit that code has replaced since.
            if found is not None and found.kind is by_code.kind:
                return found
        return by_code

    def is_set(self, name: KeyName) -> bool:
        """Whether an operator has set its rule."""
        return name in self._set or (name[0], None) in self._set

    def declare(self, use: LimitUse) -> list[LimitKey]:
        """Note the rule that code gives; the keys for which another one holds now."""
        name = (use.limit, use.key)
        if use.is_own:
            code = self._code.get(use.limit)
            if code is None or code.kind is not use.rule.kind:
                self._code[use.limit] = use.rule
            if self._own.get(name) == use.rule:
                return []
            self._own[name] = use.rule
            return self._found([name])
        if self._code.get(use.limit) == use.rule and name not in self._own:
            return []
        self._own.pop(name, None)
        self._code[use.limit] = use.rule
        return self._of(use.limit)

    def set_rule(self, limit: str, key: str | None, rule: LimitRule | None) -> list[LimitKey]:
        """Let an operator's rule hold; the keys that it is about. Raises UsageError for a rule of
        the other kind."""
        code = self._code[limit]
        if rule is not None and rule.kind is not code.kind:
            raise UsageError(
                f"the limit {limit!r} bounds {_BOUNDS[code.kind]}, and the new rule bounds "
                f"{_BOUNDS[rule.kind]}: give a rule of the kind {code.kind.value!r}"
            )
        if rule is None:
            self._set.pop((limit, key), None)
        else:
            self._set[limit, key] = rule
        if key is None:
            return self._of(limit)
        # One that is used by nobody is kept for its rule, and goes with it.
        return [self.get((limit, key))]

    def lacks(self, use: LimitUse) -> bool:
        """Whether no rule of code is known for a use."""
        if use.is_own:
            return (use.limit, use.key) not in self._own
        return use.limit not in self._code

    def is_known(self, limit: str) -> bool:
        """Whether code has used this limit."""
        return limit in self._code

    # Keys

    def get(self, name: KeyName) -> LimitKey:
        """The key, made when it is new."""
        key = self._keys.get(name)
        if key is None:
            key = self._keys[name] = LimitKey(name)
        return key

    def find(self, name: KeyName) -> LimitKey | None:
        """The key, if it is in use."""
        return self._keys.get(name)

    def __iter__(self) -> Iterator[LimitKey]:
        return iter(list(self._keys.values()))

    def _of(self, limit: str) -> list[LimitKey]:
        return [key for key in self._keys.values() if key.name[0] == limit]

    def _found(self, names: list[KeyName]) -> list[LimitKey]:
        return [self._keys[name] for name in names if name in self._keys]

    def drop_idle(self, key: LimitKey) -> None:
        """Drop a key that nothing is known of. Those of rates wait until nothing is owed."""
        is_used = key.running or key.lanes or key.paid_us or key.closed_ms or key.name in self._set
        if not is_used and self._keys.get(key.name) is key:
            del self._keys[key.name]
            self._own.pop(key.name, None)

    def forget(self, now: int) -> None:
        """Drop the keys that nobody uses, waits for or has paid too little for."""
        for name, key in [*self._keys.items()]:
            rule = self.rule(name)
            is_used = key.running or key.lanes or key.closed_ms > now or name in self._set
            # A start that counts for more than a burst needs longer until nothing is owed.
            paid_ms = key.paid_us // 1000 + rule.period_ms
            if not is_used and (not key.paid_us or paid_ms <= now):
                del self._keys[name]
                self._own.pop(name, None)

    def pull_back(self, now: int) -> None:
        """The clock has gone back: no key is closed, and nothing is owed, for longer than it was.

        Not by how much it went: what came between the step and this is by the new clock already.
        """
        for key in self._keys.values():
            if key.closed_since_ms > now:
                key.closed_ms -= key.closed_since_ms - now
                key.closed_since_ms = now
            self.forgive(key, now)

    # Passing

    def opens_ms(self, use: Use, now: int) -> int | None:
        """When a job may pass at the earliest; None: when a permit is given back, or with another
        rule. It may pass now if that is no later."""
        key, tokens = use
        rule = self.rule(key.name)
        # rule:35 never more permits than the limit has, in memory
        if rule.kind is LimitKind.CONCURRENCY:
            return key.closed_ms if key.running < rule.number else None
        if rule.number < 1:
            return None
        key.paid_us = bounded(rule, key.paid_us, now)
        # rule:35 a job starts no earlier than its rate allows, in memory
        return max(key.closed_ms, opens_ms(rule, key.paid_us, tokens, now))

    def places(self, key: LimitKey, now: int) -> int:
        """How many jobs may pass it now."""
        rule = self.rule(key.name)
        if key.closed_ms > now:
            return 0
        if rule.kind is LimitKind.CONCURRENCY:
            return max(rule.number - key.running, 0)
        return starts_left(rule, key.paid_us, now)

    def take(self, use: Use, now: int) -> bool:
        """Count a start at a rate. True for a limit with permits: the caller takes one."""
        rule = self.rule(use.key.name)
        if rule.kind is LimitKind.CONCURRENCY:
            return True
        use.key.paid_us = charged(rule, use.key.paid_us, use.tokens, now)
        return False

    def forgive(self, key: LimitKey, now: int) -> None:
        """No more is owed than the present rule could owe by now."""
        rule = self.rule(key.name)
        if rule.kind is LimitKind.RATE and rule.number:
            key.paid_us = forgiven(rule, key.paid_us, now)


_BOUNDS = {
    LimitKind.CONCURRENCY: "how many jobs run at once",
    LimitKind.RATE: "how many jobs start in a time",
}
