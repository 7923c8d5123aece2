"""New jobs as the scripts read them, with their terms, and what became of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

from asyncjobs.model.ids import id_bytes, id_text
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Barrier, Terms, Unique
from asyncjobs.store.answers import Placed
from asyncjobs.store.redis.gates import gate_args

__all__ = [
    "barrier_args",
    "effect_args",
    "has_new",
    "has_terms",
    "job_args",
    "key_args",
    "raise_args",
    "read_met",
    "read_places",
    "terms_args",
]

How: TypeAlias = Literal["there", "replaced", "held", "cancelled"]

# The priority of a new job: see lua/enqueue.lua.
_NEW_ID: Final = tuple(b"%dn" % p for p in range(4))
_GIVEN_ID: Final = tuple(b"%d" % p for p in range(4))
# The modes of lua/unique.lua.
_MODES: Final = {"finished": b"f", "started": b"s", "window": b"w"}
# What a failure does, as lua/terms.lua says it, and the modes of lua/barriers.lua.
_FAILURES: Final = {"cancel": b"c", "run": b"r", "skip": b"s"}
_FALLS_ON: Final = {"all": b"a", "first_failure": b"f"}
# The words of lua/enqueue_terms.lua.
_NEW: Final = ord("1")
_HOW: Final[dict[int, How]] = {
    ord("0"): "there",
    ord("r"): "replaced",
    ord("h"): "held",
    ord("c"): "cancelled",
}
_MET: Final[dict[bytes, How]] = {how.encode(): how for how in _HOW.values()}


def has_terms(job: NewJob) -> bool:
    """Whether the job has any terms. Those without one are as none."""
    return job.terms is not None and any(job.terms)


def job_args(job: NewJob) -> tuple[str, bytes, bytes, bytes]:
    """A new job as lua/enqueue.lua reads it."""
    priority = (_NEW_ID if job.has_new_id else _GIVEN_ID)[job.priority]
    if job.at_ms is not None:
        return job.id, priority, b"%d" % job.at_ms, job.envelope
    if job.delay_ms > 0:
        return job.id, priority, b"+%d" % job.delay_ms, job.envelope
    return job.id, priority, b"", job.envelope


def effect_args(place: int, job: NewJob, queue: str) -> list[bytes | str | int]:
    """A new job as lua/effects.lua reads it. `place` is that of the settlement that stores it, and
    `queue` that in which it is."""
    id, word, due, envelope = job_args(job)
    more: list[bytes | str | int] = []
    if has_terms(job):
        word += b"t"
        more.append(terms_args(job.queue, job.terms))
    if job.queue != queue:
        word += b"o"
        more.append(job.queue)
    return [place, id, word, due, envelope, *more]


def raise_args(place: int, barrier: Barrier, queue: str) -> tuple[bytes | str | int, ...]:
    """A barrier that a success raises in this queue, as lua/effects.lua reads it."""
    id, arrivals, mode = barrier_args(barrier)
    return place, id, b"b" + mode, arrivals, _unless(queue, barrier.queue)


def terms_args(queue: str, terms: Terms | None) -> bytes:
    """The terms of a new job of this queue, as lua/terms.lua reads them."""
    if terms is None:
        return b""
    return b"".join(b"%b%d:%b" % (letter, len(part), part) for letter, part in _parts(queue, terms))


def _parts(own: str, terms: Terms) -> Iterator[tuple[bytes, bytes]]:
    # A term that this store does not keep was refused before.
    if terms.unique is not None:
        yield b"u", _unique(terms.unique)
    if terms.gate is not None:
        yield b"g", gate_args(terms.gate)
    if terms.behind is not None:
        yield b"b", id_bytes(terms.behind)
    for arrival in terms.arrivals:
        queue = _unless(own, arrival.queue)
        how = _FAILURES[arrival.on_failure]
        yield b"a", how + _sized(queue) + id_bytes(arrival.barrier)
    if terms.node is not None:
        home = _unless(own, terms.node.queue)
        job = _unless(terms.node.queue, own)
        names = (home, job, id_bytes(terms.node.flow))
        yield b"n", b"".join(map(_sized, names)) + id_bytes(terms.node.node)


def _unique(unique: Unique) -> bytes:
    # Who may do both replaces: the script asks for the start of the holder first.
    conflict = b"-"
    if unique.hold:
        conflict = b"q"
    if unique.replace:
        conflict = b"h" if unique.hold else b"r"
    mode = _MODES[unique.until]
    return b"%b%b %d %d %b" % (mode, conflict, unique.ttl_ms, unique.latest_ms or 0, unique.key)


def barrier_args(barrier: Barrier) -> tuple[bytes, int, bytes]:
    """A barrier that is raised, as lua/enqueue_terms.lua reads it."""
    return id_bytes(barrier.id), barrier.arrivals, _FALLS_ON[barrier.falls_on]


def _unless(own: str, queue: str) -> bytes:
    """The name of a queue, empty for this one."""
    if queue == own:
        return b""
    return queue.encode()


def _sized(text: bytes) -> bytes:
    return b"%d:%b" % (len(text), text)


def key_args(unique: Unique | None) -> bytes:
    """The key that a dead job has to hold again, for lua/revive.lua."""
    # rule:21 a window keeps no dead job from its next try
    if unique is None or unique.until == "window":
        return b""
    return b"%b %d %b" % (_MODES[unique.until], unique.ttl_ms, unique.key)


def read_places(queue: str, answer: bytes) -> list[Placed | None]:
    """What became of each job of a batch, from the answer of lua/enqueue_terms.lua."""
    return [
        None if how == _NEW else Placed(JobRef(queue, id_text(id)), _HOW[how])
        for how, id in _places(answer)
    ]


def read_met(queue: str, flat: Sequence[Any]) -> dict[int, Placed]:
    """What became of the unique jobs of ticks, by position, from the answer of lua/cron_fire.lua or
    lua/cron_run.lua."""
    return {
        place - 1: Placed(JobRef(queue, id_text(id)), _MET[how])
        for place, how, id in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    }


def has_new(answer: bytes) -> bool:
    """Whether that answer has a job that was stored."""
    return any(how == _NEW or _HOW[how] in ("held", "cancelled") for how, _ in _places(answer))


def _places(answer: bytes) -> Iterator[tuple[int, bytes]]:
    # Ids may hold any byte, so each has its length in front of it.
    at = 0
    while at < len(answer):
        colon = answer.index(b":", at)
        end = colon + 1 + int(answer[at + 1 : colon])
        yield answer[at], answer[colon + 1 : end]
        at = end
