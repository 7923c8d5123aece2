"""Gates on a server: as lua/gates.lua reads them, and what it says of jobs that passed one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from asyncjobs.errors import UsageError
from asyncjobs.model.job import TakenJob
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse

__all__ = ["GATED", "gate_args", "lane_of", "rule_text", "slot_of", "use_text"]

GATED: Final = 4
"""Where the scripts keep the entries of jobs with a gate: behind those of the four priorities."""
_MARK: Final = ord("-")
_KINDS: Final = {LimitKind.CONCURRENCY: b"c", LimitKind.RATE: b"r"}
_WHEN_FULL: Final = {"wait": b"w", "cancel_running": b"c", "cancel_new": b"n"}


def slot_of(job: TakenJob) -> int:
    """The stream in which a job that was taken stands: its priority, or GATED."""
    # Ids in that stream begin with `1-`; those in all others with a time.
    if job.receipt[1:2] == b"-":
        return GATED
    return job.priority


def use_text(kind: LimitKind, limit: str, key: str) -> bytes:
    """A limit and a key of it, as lua/rooms.lua names them."""
    name = limit.encode("utf-8", "surrogateescape")
    by = key.encode("utf-8", "surrogateescape")
    return b"%b%d:%b%d:%b" % (_KINDS[kind], len(name), name, len(by), by)


def rule_text(rule: LimitRule) -> bytes:
    """The numbers of a limit, as lua/rooms.lua keeps them."""
    # A rate of many starts in no time at all bounds nothing, and is refused.
    if rule.kind is LimitKind.RATE and rule.period_ms <= 0:
        raise UsageError(
            f"a rate of {rule.number:,} starts in {rule.period_ms} ms bounds nothing: give it a "
            "time of 1 ms or more"
        )
    return b"%b%d %d %d" % (_KINDS[rule.kind], rule.number, rule.period_ms, rule.burst)


def lane_of(uses: Sequence[LimitUse], turn: str = "") -> bytes:
    """The lane of all jobs with these uses and this turn."""
    by = turn.encode("utf-8", "surrogateescape")
    parts = [b"%d:%b%d:" % (len(by), by, len(uses))]
    parts += [
        b"%b%d;" % (use_text(use.rule.kind, use.limit, use.key), max(use.tokens, 1)) for use in uses
    ]
    return b"".join(parts)


# Many jobs have the same few gates, and making the text costs as much as the rest of an enqueue.
@lru_cache(maxsize=4096)
def gate_args(gate: Gate) -> bytes:
    """The gate of a new job, as lua/gates.lua reads it."""
    uses = _merged(gate.uses)
    lane = lane_of(uses, gate.turn)
    head = b"%b%d %d:%b" % (_WHEN_FULL[gate.when_full], max(gate.share, 1), len(lane), lane)
    return head + b"".join(
        b"%b%b;" % (b"k" if use.is_own else b"c", rule_text(use.rule)) for use in uses
    )


def _merged(uses: Sequence[LimitUse]) -> list[LimitUse]:
    """Each key once: a job has one permit of it, and pays all its tokens together."""
    found: dict[tuple[LimitKind, str, str], LimitUse] = {}
    for use in uses:
        name = (use.rule.kind, use.limit, use.key)
        before = found.get(name)
        tokens = use.tokens
        if before is not None and use.rule.kind is LimitKind.RATE:
            tokens += before.tokens
        found[name] = use._replace(tokens=tokens)
    return list(found.values())
