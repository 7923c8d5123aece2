"""Limits that several job functions name: whether they fit together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from asyncjobs.errors import ConfigError
from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.terms import LimitRule
from asyncjobs.options.checks import DEFAULT_QUEUE
from asyncjobs.options.routes import QueueBy
from asyncjobs.policy.gating import fixed_rule
from asyncjobs.policy.limits import Limit, kind_of
from asyncjobs.policy.rates import rule_text

__all__ = ["check_shared_limits"]


def check_shared_limits(
    function: JobFunction[..., Any], others: Iterable[JobFunction[..., Any]]
) -> None:
    """Raises ConfigError if a limit of `function` cannot count together with that of another job
    function under the same name."""
    if function.gating is None:
        return
    limits = function.gating.limits
    # Names of a limit are few, functions may be many: this looks at each pair of them once.
    for other in others:
        # The same function, defined once more, replaces it.
        if other.gating is None or other.name == function.name:
            continue
        for name, limit in other.gating.limits.items():
            if name in limits:
                _check_pair(name, function, limits[name], other, limit)


def _check_pair(
    name: str,
    function: JobFunction[..., Any],
    limit: Limit,
    other: JobFunction[..., Any],
    its: Limit,
) -> None:
    both = f"{function.name} and {other.name} share the limit {name!r}"
    if kind_of(limit) is not kind_of(its):
        raise ConfigError(
            f"{both}, and one is a {type(limit).__name__}, the other a {type(its).__name__}; give "
            "them two names"
        )
    rules = fixed_rule(limit), fixed_rule(its)
    # Each enqueue says the rule anew: two of them would take turns.
    # rule:39 one limit has one rule
    if None not in rules and rules[0] != rules[1]:
        raise ConfigError(
            f"{both}, with the rules {_shown(rules[0])} and {_shown(rules[1])}; make the limit "
            "once, and give it to both"
        )
    queues = _queue_of(function), _queue_of(other)
    # A limit counts in its queue. Together they would let twice as many run.
    # rule:39 one limit counts in one queue
    if None not in queues and queues[0] != queues[1]:
        raise ConfigError(
            f"{both}, and their jobs go to the queues {queues[0]!r} and {queues[1]!r}; a limit "
            "counts in one queue: give both functions the same queue, or each limit its own name"
        )


def _shown(rule: LimitRule | None) -> str:
    return "" if rule is None else rule_text(rule)


def _queue_of(function: JobFunction[..., Any]) -> str | None:
    """The queue of its jobs, without the app's prefix; None if it comes from the arguments."""
    queue = function.given_queue
    if isinstance(queue, QueueBy):
        return None
    return queue or DEFAULT_QUEUE
