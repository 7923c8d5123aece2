"""Actions on jobs that were chosen: cancel, retry, delete, run now, change."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import AnyEnvelope, Envelope, NewerEnvelope, gate_in, unique_in
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome, revived
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import CancelVerdict
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.letters import LetterKey, Revival, Revived
from asyncjobs.store.seam import Backend

__all__ = [
    "ActionVerdict",
    "Chosen",
    "cancel",
    "change",
    "choose",
    "chosen_of",
    "delete",
    "retry",
    "run_now",
]

STEP: Final = 100
"""Dead letters that are read together: each may be as large as a payload may be."""


class ActionVerdict(StrEnum):
    """What became of a job that somebody wanted to act on."""

    DONE = "done"
    REQUESTED = "requested"
    """It runs: its worker was asked to stop it."""
    GONE = "gone"
    """There is no such job any more, or never was, or it has ended."""
    RUNNING = "running"
    """A worker runs it, and it was left alone."""
    MOVED = "moved"
    """It was taken, changed, or has ended since it was chosen, and was left alone."""
    WAITING = "waiting"
    """It waits already, and this action does nothing to such a job."""
    HELD = "held"
    """It waits for the end of another job, and cannot run before that."""
    ID_TAKEN = "id_taken"
    """It is dead, and a living job has its id."""
    KEY_TAKEN = "key_taken"
    """It is dead, and another job holds its unique key."""
    UNREADABLE = "unreadable"
    """What is stored of it cannot be read, so it cannot be made anew."""


_OF_CHANGED: Final = {
    Changed.DONE: ActionVerdict.DONE,
    Changed.GONE: ActionVerdict.GONE,
    Changed.RUNNING: ActionVerdict.RUNNING,
    Changed.MOVED: ActionVerdict.MOVED,
    Changed.READY: ActionVerdict.WAITING,
    Changed.HELD: ActionVerdict.HELD,
}
_OF_REVIVED: Final = {
    Revived.READY.how: ActionVerdict.DONE,
    Revived.GONE.how: ActionVerdict.MOVED,
    Revived.TAKEN.how: ActionVerdict.ID_TAKEN,
}
_OF_CANCEL: Final = {
    CancelVerdict.CANCELLED: ActionVerdict.DONE,
    CancelVerdict.REQUESTED: ActionVerdict.REQUESTED,
    CancelVerdict.FINISHED: ActionVerdict.GONE,
    CancelVerdict.UNKNOWN: ActionVerdict.GONE,
}


class Chosen(NamedTuple):
    """A job to act on, and where it was when it was chosen.

    `has_failed`: an attempt of it has failed before. None if nobody has looked.
    """

    target: Target
    state: State | None
    has_failed: bool | None = None

    @property
    def ref(self) -> JobRef:
        return self.target.ref


async def choose(store: Backend, refs: Sequence[JobRef]) -> list[Chosen]:
    """These jobs as they are now. One that is unknown has no state."""
    records = await store.get(refs)
    return [chosen_of(ref, record) for ref, record in zip(refs, records, strict=True)]


def chosen_of(ref: JobRef, record: JobRecord | None) -> Chosen:
    """A job as a record of it says."""
    if record is None:
        return Chosen(Target(ref), None)
    # A ready job has no time of its own. Any place that it has when the action comes is meant.
    seen = b""
    if record.state is State.SCHEDULED and record.due_ms is not None:
        seen = b"%d" % record.due_ms
    has_failed = None
    if record.envelope is not None:
        has_failed = _has_failed(record.envelope)
    return Chosen(Target(ref, seen), record.state, has_failed)


def _has_failed(envelope: bytes) -> bool:
    try:
        return bool(AnyEnvelope.decode(envelope).headers.errors())
    except BadRecord:
        return False


async def cancel(
    store: Backend, chosen: Sequence[Chosen], result_ttl_ms: int
) -> list[ActionVerdict]:
    """Cancel jobs that wait, and ask the workers of running ones to stop them."""
    # Those who wait for the result of a job that never ran get this outcome.
    outcome = None
    if result_ttl_ms:
        outcome = Outcome(State.CANCELLED).encode()
    verdicts = await store.cancel([each.ref for each in chosen], outcome, result_ttl_ms)
    return [_OF_CANCEL[verdict] for verdict in verdicts]


async def delete(store: Backend, chosen: Sequence[Chosen]) -> list[ActionVerdict]:
    """Delete dead jobs, and those that wait."""
    dead = [each for each in chosen if each.state is State.DEAD]
    # Letters go by the time of the death, so that a later death of the same job is left alone.
    keys = await _letter_keys(store, dead)
    found = [key for key in keys if key is not None]
    dropped = iter(await store.dead.purge(found))
    of_dead = iter(
        ActionVerdict.DONE if key is not None and next(dropped) else ActionVerdict.MOVED
        for key in keys
    )
    rest = [each for each in chosen if each.state is not State.DEAD]
    of_rest = iter(await store.inspect.jobs.delete([each.target for each in rest]))
    return [
        next(of_dead) if each.state is State.DEAD else _OF_CHANGED[next(of_rest)] for each in chosen
    ]


async def run_now(store: Backend, chosen: Sequence[Chosen]) -> list[ActionVerdict]:
    """Make scheduled jobs ready."""
    verdicts = await store.inspect.jobs.run_now([each.target for each in chosen])
    return [_OF_CHANGED[verdict] for verdict in verdicts]


async def retry(store: Backend, chosen: Sequence[Chosen]) -> list[ActionVerdict]:
    """Run dead jobs again, and those at once that wait for their next attempt after a failure."""
    # By the jobs themselves, and each once, for a list may name one twice.
    once = list(dict.fromkeys(chosen))
    dead = [each for each in once if each.state is State.DEAD]
    waiting = [
        each for each in once if each.state is State.SCHEDULED and each.has_failed is not False
    ]
    of_dead = dict(zip(dead, await _revive(store, dead), strict=True))
    of_waiting = dict(zip(waiting, await run_now(store, waiting), strict=True))
    verdicts: list[ActionVerdict] = []
    for each in chosen:
        if each in of_dead:
            verdicts.append(of_dead[each])
        elif each in of_waiting:
            verdicts.append(of_waiting[each])
        elif each.state in (State.READY, State.SCHEDULED):
            verdicts.append(ActionVerdict.WAITING)
        elif each.state is State.HELD:
            verdicts.append(ActionVerdict.HELD)
        elif each.state is State.RUNNING:
            verdicts.append(ActionVerdict.RUNNING)
        else:
            verdicts.append(ActionVerdict.GONE)
    return verdicts


async def _letter_keys(store: Backend, dead: Sequence[Chosen]) -> list[LetterKey | None]:
    """The letters of these deaths; None for one that is gone. Without a time it is any death."""
    # Without the envelopes, which may be large: only the times of the deaths are wanted.
    letters = await store.dead.find([each.ref for each in dead], cut=0)
    return [
        letter.key
        if letter is not None and each.target.seen in (b"", b"%d" % letter.key.died_ms)
        else None
        for each, letter in zip(dead, letters, strict=True)
    ]


async def _revive(store: Backend, dead: Sequence[Chosen]) -> list[ActionVerdict]:
    verdicts: list[ActionVerdict] = []
    for first in range(0, len(dead), STEP):
        # One step after the other, in the order in which they were given: so they run in it.
        verdicts += await _revive_some(store, dead[first : first + STEP])
    return verdicts


async def _revive_some(store: Backend, dead: Sequence[Chosen]) -> list[ActionVerdict]:
    letters = await store.dead.find([each.ref for each in dead])
    # So it is for those that the store does not answer about, because they are not asked for.
    verdicts = [ActionVerdict.MOVED] * len(dead)
    revivals: dict[int, Revival] = {}
    for place, (each, letter) in enumerate(zip(dead, letters, strict=True)):
        # Another time means that it has run again and died again, and that death was not chosen.
        if letter is None or each.target.seen not in (b"", b"%d" % letter.key.died_ms):
            continue
        try:
            envelope = revived(letter.letter, now_ms())
            revivals[place] = _revival(letter.key, envelope)
        except BadRecord:
            verdicts[place] = ActionVerdict.UNREADABLE
    answers = await store.dead.revive(list(revivals.values()))
    for place, answer in zip(revivals, answers, strict=True):
        verdicts[place] = _OF_REVIVED[answer.how]
        if answer.holder is not None:
            verdicts[place] = ActionVerdict.KEY_TAKEN
    return verdicts


def _revival(key: LetterKey, envelope: bytes) -> Revival:
    """A unique job has to hold its key again, and one with limits to pass its gate. Raises
    BadRecord for limits that cannot be read."""
    # rule:39 a dead job that runs again passes its limits again
    return Revival(key, envelope, unique_in(envelope), gate_in(envelope))


async def change(
    store: Backend,
    record: JobRecord,
    *,
    args: Sequence[Any] | None = None,
    kwargs: dict[str, Any] | None = None,
    at_ms: int | None = None,
) -> ActionVerdict:
    """Give a job that waits other arguments, another time, or both. None leaves what is there. A
    dead job runs again with the other arguments.

    `record` is what the arguments were made from. The caller has checked them. Raises
    EncodeError.
    """
    has_arguments = args is not None or kwargs is not None
    if record.state is State.DEAD and record.dead_letter is not None and has_arguments:
        return await _revive_changed(store, record, record.dead_letter, args, kwargs)
    if record.envelope is None:
        return ActionVerdict.GONE
    if record.state is State.RUNNING:
        return ActionVerdict.RUNNING
    # Without new arguments not a byte changes: the job may come from a later release.
    new = record.envelope
    if has_arguments:
        try:
            new = _with_arguments(record.envelope, args, kwargs)
        except (BadRecord, NewerEnvelope):
            return ActionVerdict.UNREADABLE
    asked = Change(record.ref, record.envelope, new, at_ms)
    (verdict,) = await store.inspect.jobs.change([asked])
    return _OF_CHANGED[verdict]


def _with_arguments(raw: bytes, args: Sequence[Any] | None, kwargs: dict[str, Any] | None) -> bytes:
    """The envelope with other arguments. Raises BadRecord, NewerEnvelope and EncodeError."""
    envelope = Envelope.decode(raw)
    if args is not None:
        envelope.args = list(args)
    if kwargs is not None:
        envelope.kwargs = kwargs
    return envelope.encode()


async def _revive_changed(
    store: Backend,
    record: JobRecord,
    letter: bytes,
    args: Sequence[Any] | None,
    kwargs: dict[str, Any] | None,
) -> ActionVerdict:
    """Run a dead job again with other arguments."""
    (found,) = await store.dead.find([record.ref])
    # rule:30 other arguments are given to the death that they were made for
    if found is None or found.letter != letter:
        return ActionVerdict.MOVED
    try:
        envelope = _with_arguments(revived(letter, now_ms()), args, kwargs)
        revival = _revival(found.key, envelope)
    except (BadRecord, NewerEnvelope):
        return ActionVerdict.UNREADABLE
    (answer,) = await store.dead.revive([revival])
    if answer.holder is not None:
        return ActionVerdict.KEY_TAKEN
    return _OF_REVIVED[answer.how]
