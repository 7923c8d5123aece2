"""How a rate is kept: one number a key, the time at which all starts so far are paid for (GCRA).

A rate of N starts in W with bursts of B lets one more go each T = W / (N - B + 1), and up to B at
once. So no window of the length W ever sees more than N. Times are in microseconds here: T is
rounded up, and sums of it stay exact.
"""

from __future__ import annotations

from asyncjobs.model.terms import LimitRule

__all__ = ["bounded", "charged", "forgiven", "opens_ms", "starts_left"]


def _interval_us(rule: LimitRule) -> int:
    """The time between two starts that follow each other for long."""
    # rule:35 no window sees more starts than the rate, in memory
    spread = rule.number - rule.burst + 1
    return -(-rule.period_ms * 1000 // max(spread, 1))


def forgiven(rule: LimitRule, paid_us: int, now: int) -> int:
    """The same under another rule, which never owes more than its burst."""
    return min(paid_us, now * 1000 + max(rule.burst, 1) * _interval_us(rule))


def bounded(rule: LimitRule, paid_us: int, now: int) -> int:
    """More than all of a window is never owed: then the clock was set back."""
    return min(paid_us, now * 1000 + rule.number * _interval_us(rule))


def opens_ms(rule: LimitRule, paid_us: int, tokens: int, now: int) -> int:
    """When a start that counts for so many may pass; `now` or earlier: it may."""
    interval = _interval_us(rule)
    # One that counts for more than all could never pass.
    tokens = min(tokens, rule.number)
    return -(-(paid_us + (tokens - max(rule.burst, 1)) * interval) // 1000)


def charged(rule: LimitRule, paid_us: int, tokens: int, now: int) -> int:
    """The time at which all is paid for, together with a start that counts for so many."""
    interval = _interval_us(rule)
    return max(paid_us, now * 1000) + min(tokens, rule.number) * interval


def starts_left(rule: LimitRule, paid_us: int, now: int) -> int:
    """How many single starts may pass at once."""
    interval = _interval_us(rule)
    free_us = now * 1000 - paid_us + max(rule.burst, 1) * interval
    return min(max(free_us // interval, 0), max(rule.burst, 1))
