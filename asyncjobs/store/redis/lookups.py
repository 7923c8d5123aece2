"""Questions about jobs as plans: from refs to commands, from replies to records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.model.awaiting import awaits
from asyncjobs.model.batches import pieces, places_by_queue
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.ends import STATE_OF_CODE
from asyncjobs.model.ids import id_text
from asyncjobs.model.job import JobRecord, Priority, State, held_by
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.store.redis.link import Command

__all__ = ["STEP", "event_held_by", "in_steps", "read_record", "text"]

_LIVE: Final = {
    state.value.encode(): state
    for state in (State.HELD, State.SCHEDULED, State.READY, State.RUNNING)
}
_PRIORITIES: Final = frozenset(Priority)
STEP: Final = 500
"""The most jobs that one call of a script names, where a caller may name any number."""


def in_steps(
    refs: Sequence[JobRef], command: Callable[[str, list[str]], Command]
) -> tuple[list[Sequence[int]], tuple[Command, ...]]:
    """The places of `refs` by queue, at most STEP together, and the command for each."""
    steps: list[Sequence[int]] = []
    commands: list[Command] = []
    for queue, places in places_by_queue(ref.queue for ref in refs).items():
        for step in pieces(places, STEP):
            steps.append(step)
            commands.append(command(queue, [refs[place].id for place in step]))
    return steps, tuple(commands)


def read_record(ref: JobRef, answer: list[Any]) -> JobRecord | None:
    """One job's part of the answer of lua/get.lua."""
    code, priority, due, envelope, outcome, progress, holder, dead_letter, *held = answer
    state = STATE_OF_CODE.get(code) or _LIVE.get(code)
    if state is None and code != b"?":
        return None
    # Only the outcome is left, and it says which state it was.
    if code == b"?":
        state = _state_of(outcome)
        if state is None:
            return None
    assert state is not None
    return JobRecord(
        ref,
        state,
        priority=priority if priority in _PRIORITIES else None,
        due_ms=_whole_ms(due),
        envelope=envelope or None,
        outcome=outcome or None,
        progress=progress or None,
        holder=text(holder) or None,
        dead_letter=dead_letter or None,
        taken_ms=held[0] if held and state is State.RUNNING else None,
        is_cancelled=bool(held and held[1]),
        held_by=_held_by(ref, state, held),
    )


def _held_by(ref: JobRef, state: State, held: Sequence[Any]) -> str | None:
    """For what a held or scheduled job waits, as lua/get.lua says it."""
    if state is State.HELD:
        # What follows says what kind of thing it is that holds the job.
        if len(held) > 3:
            return text(held[2])
        return held_by(JobRef(ref.queue, id_text(held[2])))
    if state is State.SCHEDULED:
        return event_held_by(held[2])
    return None


def event_held_by(event: bytes) -> str | None:
    """The event that a scheduled job waits for, as the scripts name it; None for none."""
    if not event:
        return None
    name, _, key = event.partition(b"\0")
    return awaits(text(name), text(key))


def text(raw: bytes) -> str:
    """What is shown to people. Bytes of a foreign writer are shown as escapes."""
    return raw.decode("utf-8", "backslashreplace")


def _whole_ms(score: bytes) -> int | None:
    """A time in a sorted set, None without one. That of a foreign writer may be infinite."""
    if not score:
        return None
    return int(min(max(float(score), 0.0), float(LAST_MS)))


def _state_of(outcome: bytes) -> State | None:
    try:
        return Outcome.decode(outcome).state
    except BadRecord:
        return None
