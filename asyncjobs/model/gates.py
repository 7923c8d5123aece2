"""The gate of a job as it stands in the headers of its envelope."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse

__all__ = ["GATE_MARK", "gate_header", "gate_of", "read_gate", "stored_gate"]

_GATE: Final = "gate"
GATE_MARK: Final = b'"gate":'
"""These bytes are in each envelope of a job with limits, and perhaps in others."""

_MOST_USES: Final = 64
_MOST_TEXT: Final = 1_024
_MOST_NUMBER: Final = 2**31
_MARKS: Final = {LimitKind.CONCURRENCY: "c", LimitKind.RATE: "r"}
_KINDS: Final = {mark: kind for kind, mark in _MARKS.items()}


def gate_header(gate: Gate) -> dict[str, Any]:
    """The header of a job with limits, as stored: a dead one has to pass its gate again."""
    return {_GATE: stored_gate(gate)}


def gate_of(headers: Mapping[str, Any]) -> Gate | None:
    """What a job with these headers, as stored, has to pass when it is taken; None for most jobs.
    Raises BadRecord: without its limits a job must not run."""
    stored = headers.get(_GATE)
    if stored is None:
        return None
    return read_gate(stored)


def stored_gate(gate: Gate) -> list[Any]:
    """A gate as plain data."""
    uses: list[Any] = []
    # Without names: each job with limits carries this, and each byte is stored.
    for limit, key, rule, is_own, tokens in gate.uses:
        numbers = (rule.number, rule.period_ms, rule.burst)
        uses.append([limit, key, _MARKS[rule.kind], *numbers, is_own, tokens])
    return [uses, gate.turn, gate.share, gate.when_full]


def read_gate(stored: Any) -> Gate:
    """The gate in a header. Anyone who can write to the store may have written it. Raises
    BadRecord."""
    match stored:
        case [
            list(uses),
            str(turn),
            int(share),
            "wait" | "cancel_running" | "cancel_new" as when_full,
        ] if len(uses) <= _MOST_USES and len(turn) <= _MOST_TEXT and _is_number(share):
            return Gate(tuple(_read_use(use) for use in uses), turn, share, when_full)
    raise BadRecord("its limits cannot be read")


def _read_use(stored: Any) -> LimitUse:
    match stored:
        case [
            str(limit),
            str(key),
            "c" | "r" as mark,
            int(number),
            int(period_ms),
            int(burst),
            bool(is_own),
            int(tokens),
        ] if (
            0 < len(limit) <= _MOST_TEXT
            and len(key) <= _MOST_TEXT
            and 0 <= period_ms <= LAST_MS
            and all(map(_is_number, (number, burst, tokens)))
            # A rate without a time would divide by it.
            and (mark == "c" or period_ms)
        ):
            rule = LimitRule(_KINDS[mark], number, period_ms, burst)
            return LimitUse(limit, key, rule, is_own, tokens)
    raise BadRecord("one of its limits cannot be read")


def _is_number(value: int) -> bool:
    return value is not True and 1 <= value <= _MOST_NUMBER
