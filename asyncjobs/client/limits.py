"""`app.limits` and `app.limit`: limits as an app knows them, for people and outside of jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from asyncjobs.client.passage import Lines, Passage, PassageTerms
from asyncjobs.errors import ConfigError, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.jobs.times import from_ms
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.model.terms import LimitKind, LimitRule, LimitUse
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import DEFAULT_QUEUE, check_queue_name
from asyncjobs.policy.gating import fixed_rule, key_text
from asyncjobs.policy.limits import Concurrency, Limit, RateLimit, check_limit_name
from asyncjobs.policy.rates import parse_rule, rule_text, whole
from asyncjobs.store.checks import missing
from asyncjobs.store.limits import LimitRecord
from asyncjobs.store.seam import Backend

__all__ = ["LimitInfo", "Limits", "info_of_limit"]

SHORTEST_TTL_S: Final = 1.0
LONGEST_TTL_S: Final = 86_400.0
PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class LimitInfo:
    """One key of a limit at one moment.

    name: the name of the limit. key: the key; '' for a limit with one key only.
    queue: the queue in which it counts.
    rule: as in `5` or `100/minute:20`, where 20 is the burst.
    is_set: whether an operator has set it in place of what the code says.
    running: the permits that are taken, by jobs and outside of jobs. waiting: how many jobs wait
    because of this key.
    oldest: since when the first of them waits; None without one.
    opens: when it lets one in at the earliest, if that is not now.
    """

    name: str
    key: str
    queue: str
    rule: str
    is_set: bool
    running: int
    waiting: int
    oldest: datetime | None
    opens: datetime | None


@dataclass(frozen=True, slots=True)
class _Known:
    """A limit that the code names, and the queues in which it counts; none if any may be one."""

    limit: Limit
    queues: tuple[str, ...]
    has_keys: bool | None
    """Whether it counts by keys; None: by those that `app.limit` is given."""


class Limits:
    """The limits of an app: `app.limits`. Each method raises NotOpen, MissingCapability for a store
    without limits, and StoreError.

    A limit counts in one queue. Where a method takes `queue`, None means all queues in which it is
    known.
    """

    def __init__(
        self, opened: Callable[[], Backend], registry: JobRegistry, settings: AppSettings
    ) -> None:
        self._opened = opened
        self._registry = registry
        self._settings = settings
        self._defined: dict[str, _Known] = {}
        self._lines = Lines()

    def define(self, name: str, limit: Limit, *, queue: str | None = None) -> None:
        """Name a limit that no job function has, for `app.limit(name, key)`:
        `app.limits.define("api", Concurrency(5))`.

        limit: without `by`, for each `app.limit` gives its key. Functions in it get that key.
        queue: where it counts, as job functions name queues; by default `default`. It must be the
        same in all programs.

        Raises ConfigError for a name that has another limit.
        """
        check_limit_name(name)
        if not isinstance(limit, Concurrency | RateLimit):
            raise ConfigError(f"limits.define takes a Concurrency or RateLimit, not {shown(limit)}")
        if limit.by is not None or limit.name not in (None, name):
            raise ConfigError(
                f"the limit {name!r} is defined by its name, and each app.limit(...) gives its "
                "key; leave by= and name= out"
            )
        if isinstance(limit, Concurrency) and limit.strategy != "queue":
            raise ConfigError(
                f"the limit {name!r} has strategy={limit.strategy!r}, which is for jobs; outside "
                "of jobs one waits, up to the timeout= of app.limit(...)"
            )
        full = self._settings.queue_prefix + check_queue_name(queue or DEFAULT_QUEUE)
        new = _Known(limit, (full,), None)
        # The same line may be executed twice, by a reload.
        if (self._of_functions(name) or self._defined.get(name, new)) != new:
            raise ConfigError(f"the limit {name!r} is there already, with another rule or queue")
        self._defined[name] = new

    def limit(
        self,
        name: str,
        key: Any = "",
        *,
        timeout: Seconds | None = None,
        weight: int = 1,
        ttl: Seconds = 30,
        queue: str | None = None,
    ) -> Passage:
        """Run a part of a program under a limit, in a job or outside of jobs:

            async with app.limit("api", tenant, timeout=10):
                ...

        It waits until the limit lets it in, behind those of this process that wait for the same
        key. A permit is renewed as long as the body runs, and given back at its end.

        name: that of a limit of job functions, or of `limits.define`.
        key: a text, a number, or a tuple for several arguments.
        timeout: how long to wait at most; None: as long as it takes.
        weight: how many starts it counts for at a rate.
        ttl: how long a permit outlives a process that has died.
        queue: where it counts; only for jobs whose queue comes from their arguments.

        Entering raises LimitTimeout, NotOpen, MissingCapability, and StoreUnavailable. If the
        permit is lost, because the store is away for longer than `ttl`, the body is cancelled and
        LimitLost is raised. Raises UsageError for a limit that is not known.
        """
        known = self._known(name)
        use = _use(name, known, key, weight)
        timeout_s = None
        if timeout is not None:
            timeout_s = seconds(timeout, field="timeout")
        ttl_s = min(seconds(ttl, field="ttl", minimum=SHORTEST_TTL_S), LONGEST_TTL_S)
        if queue is None and len(known.queues) != 1:
            raise UsageError(
                f"the limit {name!r} counts in each queue by itself, and its queue comes from the "
                "arguments of jobs; give queue="
            )
        chosen = known.queues[0] if queue is None else check_queue_name(queue)
        reach_s = self._settings.connect_timeout_s
        terms = PassageTerms(chosen, use, timeout_s, ttl_s, reach_s)
        return Passage(terms, self._store, self._lines)

    async def list(self, queue: str | None = None) -> Sequence[LimitInfo]:
        """All keys that are in use: a permit is taken, a job waits, the key is closed for a time,
        or an operator has set its rule. In no order."""
        store = self._store()
        queues = await self._queues(store, queue)
        return [info_of_limit(record) async for record in _records(store, queues)]

    async def look(
        self, name: str, key: Any = "", *, queue: str | None = None
    ) -> Sequence[LimitInfo]:
        """One key, for each queue that knows the limit."""
        store = self._store()
        found = [
            await store.limits.look(each, name, _key(key))
            for each in await self._queues(store, queue, name)
        ]
        return [info_of_limit(record) for record in found if record is not None]

    async def set(
        self, name: str, rule: str | int | None, key: Any = None, *, queue: str | None = None
    ) -> bool:
        """Let another rule hold, for all keys or for one, until it is set again. False when nobody
        has used the limit yet.

        rule: `5`, `100/minute`, or `100/minute:20` for a burst of 20; None: what the code says.

        Jobs that wait go on with it at once. Raises ConfigError for what is no rule, and UsageError
        for one of the other kind.
        """
        new: LimitRule | None = None
        if rule is not None:
            new = parse_rule(str(rule), field="rule")
        store = self._store()
        chosen = None if key is None else _key(key)
        done = [
            await store.limits.set_rule(each, name, chosen, new)
            for each in await self._queues(store, queue, name)
        ]
        return any(done)

    async def free(self, name: str, key: Any = "", *, queue: str | None = None) -> int:
        """Open a key that is closed for a time, and count its permits anew. How many permits were
        free then that nobody held."""
        store = self._store()
        queues = await self._queues(store, queue, name)
        return sum([await store.limits.free(each, name, _key(key)) for each in queues])

    async def close(self, name: str, for_: Seconds, key: Any = "") -> None:
        """Let nobody pass a key for so long, as `RateLimited` does in a job.

        The limit must be one of a job function, or defined. Raises UsageError for another one.
        """
        known = self._known(name)
        use = _use(name, known, key, 1)
        ms = round(seconds(for_, field="for_") * 1000)
        store = self._store()
        for queue in known.queues:
            await store.limits.close(queue, [use], ms)

    def _store(self) -> Backend:
        store = self._opened()
        if not store.capabilities.gates:
            raise missing("gates", store.address)
        return store

    async def _queues(self, store: Backend, queue: str | None, name: str = "") -> Sequence[str]:
        if queue is not None:
            return [check_queue_name(queue)]
        known = self._defined.get(name) or self._of_functions(name)
        # What nobody here names may be of another program: then the store says where it is.
        if known is not None and known.queues:
            return known.queues
        return await store.inspect.queues.names()

    def _known(self, name: str) -> _Known:
        found = self._defined.get(name) or self._of_functions(name)
        if found is None:
            names = sorted({*self._defined, *self._names_of_functions()})
            raise UsageError(
                f"there is no limit {shown(name)}; write app.limits.define({shown(name)}, "
                f"Concurrency(5)). Known are: {', '.join(names[:10]) or 'none'}"
            )
        return found

    def _of_functions(self, name: str) -> _Known | None:
        found: _Known | None = None
        for function in self._registry.functions():
            limit = function.gating and function.gating.limits.get(name)
            if limit:
                queues = function.settings.queues
                if found is not None:
                    queues = tuple(dict.fromkeys((*found.queues, *queues)))
                found = _Known(limit, queues, limit.by is not None)
        return found

    def _names_of_functions(self) -> frozenset[str]:
        functions = self._registry.functions()
        return frozenset(name for each in functions if each.gating for name in each.gating.limits)


def info_of_limit(record: LimitRecord) -> LimitInfo:
    """A key of a limit, for people."""
    return LimitInfo(
        record.limit,
        record.key,
        record.queue,
        rule_text(record.rule),
        record.is_set,
        record.running,
        record.waiting,
        _time(record.oldest_ms),
        _time(record.opens_ms),
    )


def _use(name: str, known: _Known, key: Any, weight: int) -> LimitUse:
    limit = known.limit
    text = _key(key)
    # Another key than that of the jobs would be another limit.
    if known.has_keys is False and text:
        raise UsageError(f"the limit {name!r} has no keys; leave {shown(key)} out")
    # All calls without a key would count together, and beside those of jobs.
    if known.has_keys and not text:
        raise UsageError(f"the limit {name!r} counts by {_by(limit)}; give the key")
    rule = fixed_rule(limit)
    is_own = rule is None
    if rule is None:
        rule = _own_rule(name, known, text)
    # A permit is one, whatever goes on under it.
    if rule.kind is LimitKind.CONCURRENCY:
        weight = 1
    return LimitUse(name, text, rule, is_own, whole(weight, "limit: weight", rule.number))


def _own_rule(name: str, known: _Known, key: str) -> LimitRule:
    limit = known.limit
    rule: Any = limit.number if isinstance(limit, Concurrency) else limit.rate
    if known.has_keys is not None:
        raise UsageError(
            f"the rule of the limit {name!r} comes from the calls of jobs, and here is no call"
        )
    text = str(rule(key))
    if isinstance(limit, RateLimit) and limit.burst is not None:
        text = f"{text}:{limit.burst}"
    return parse_rule(text, field=f"the rule of the limit {name}")


def _by(limit: Limit) -> str:
    by = limit.by
    return ", ".join(by) if isinstance(by, tuple) else "a function of the call"


def _key(key: Any) -> str:
    try:
        return key_text(list(key) if isinstance(key, tuple) else [key])
    except ValueError as error:
        raise UsageError(str(error)) from error


async def _records(store: Backend, queues: Sequence[str]) -> AsyncIterator[LimitRecord]:
    for queue in queues:
        after: str | None = None
        while True:
            page = await store.limits.page(queue, after, PAGE)
            for record in page.limits:
                yield record
            after = page.after
            if after is None:
                break


def _time(ms: int | None) -> datetime | None:
    if ms is None:
        return None
    # Anyone who can write to the store may have written any number.
    return from_ms(min(max(ms, 0), LAST_MS))
