"""An entry of the ring of finished jobs: all jobs that one exchange has ended.

It has a column for each thing that is told of them. So all is done by functions in C, for all jobs
at once, and what is the same for all of them is written once. `told_of` writes what lua/history.lua
puts into it, `read_entry` reads it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter, sub
from typing import Any, Final

import orjson

from asyncjobs.guard.untrusted import LAST_MS, in_range
from asyncjobs.model.codec import BadRecord, read_fields
from asyncjobs.model.ends import STATE_OF_CODE
from asyncjobs.model.history import NOTHING, FinishedJob, finished_job, unstarted
from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement

__all__ = ["read_entry", "told_of"]

# By name: by place they cost a third more, for these are no plain tuples.
_JOB: Final = attrgetter("job")
_STATE: Final = attrgetter("state")
_RUN: Final = attrgetter("run")
_ID: Final = attrgetter("id")
_READY_MS: Final = attrgetter("ready_ms")


def told_of(worker: str, settlements: Sequence[Settlement]) -> bytes:
    """What the history is told of these settlements. Raises nothing: jobs must be settled, whatever
    their ids are."""
    jobs = [*map(_JOB, settlements)]
    runs = [*map(_RUN, settlements)]
    states = [*map(_STATE, settlements)]
    if None in runs:
        runs = [told or NOTHING for told in runs]
    # Those with an error are longer, and zip ends with the shortest. So no job has to be looked at.
    names, attempts, enqueued, began, began_s, ended_s = [*zip(*runs, strict=False)][:6]
    told: dict[str, Any] = {
        "w": worker,
        "i": [*map(_ID, jobs)],
        "f": _shared(names),
        "n": _shared(attempts),
        "e": enqueued,
        "r": [*map(_READY_MS, jobs)],
        "b": began,
        "t": [*map(sub, ended_s, began_s)],
    }
    if states.count(State.SUCCEEDED) < len(states):
        told["s"] = states
        told["x"] = [each[6] if len(each) > 6 else "" for each in runs]
    # Labels are rare, and stand behind the error.
    if max(map(len, runs)) > 7:
        told["g"] = [each[7] if len(each) > 7 else None for each in runs]
    try:
        return orjson.dumps(told)
    except TypeError:
        # An id of a foreign writer that is no UTF-8.
        told["i"] = [_shown(job.id) for job in jobs]
    try:
        return orjson.dumps(told)
    except TypeError:
        # Nor is the name of the worker.
        return orjson.dumps({**told, "w": ""})


def _shared(column: Sequence[Any]) -> Any:
    """The column; only its value if all jobs have the same."""
    if column.count(column[0]) == len(column):
        return column[0]
    return column


def _shown(id: str) -> str:
    return id_bytes(id).decode("utf-8", "backslashreplace")


def read_entry(queue: str, entry: Sequence[Any]) -> list[FinishedJob]:
    """The jobs of one entry, oldest first. None of one that a foreign writer has made."""
    name, flat = entry
    pairs = list(zip(flat[::2], flat[1::2], strict=False))
    try:
        last = int(name.partition(b"-")[0])
        fields = dict(pairs)
        ended_ms = in_range(int(fields[b"at"]), LAST_MS)
        if b"told" in fields:
            found = _told(queue, ended_ms, fields)
        else:
            found = _waited(queue, ended_ms, pairs)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, BadRecord):
        return []
    # Whatever had no effect got no number.
    first = last - len(found) + 1
    return [job._replace(number=first + place) for place, job in enumerate(found)]


def _told(queue: str, ended_ms: int, fields: Mapping[bytes, bytes]) -> list[FinishedJob]:
    """The jobs that a worker has told of."""
    told = read_fields(fields[b"told"])
    void = set(map(int, fields[b"void"].split()))
    cancelled = set(map(int, fields[b"cancelled"].split()))
    ids = told["i"]
    columns = [_column(told.get(key), len(ids)) for key in "fnebtrsxg"]
    found = []
    for place, (id, *about) in enumerate(zip(ids, *columns, strict=True), start=1):
        name, attempt, enqueued_ms, began_ms, lasted_s, ready_ms, word, error, labels = about
        state = State.CANCELLED if place in cancelled else State(word or State.SUCCEEDED)
        # rule:19 only what has counted is in the history
        if place not in void and state.is_final:
            ref = JobRef(queue, str(id))
            run = (name, attempt, enqueued_ms, began_ms, 0.0, lasted_s, error or "", labels)
            job = finished_job(ref, state, ended_ms, str(told["w"]), ready_ms, run)
            found.append(job)
    return found


def _column(told: Any, number: int) -> Sequence[Any]:
    if isinstance(told, list):
        return told
    return [told] * number


def _waited(queue: str, ended_ms: int, pairs: Sequence[tuple[bytes, bytes]]) -> list[FinishedJob]:
    """The jobs that have ended while they waited."""
    state = STATE_OF_CODE.get(dict(pairs).get(b"as", b""), State.CANCELLED)
    ids = [id_text(value) for name, value in pairs if name == b"id"]
    starts = [value for name, value in pairs if name == b"start"]
    return [
        finished_job(JobRef(queue, id), state, ended_ms, "", 0, unstarted(start))
        for id, start in zip(ids, starts, strict=True)
    ]
