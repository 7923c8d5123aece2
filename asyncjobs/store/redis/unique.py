"""Unique jobs on a server: their terms as the scripts read them, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, Literal

from asyncjobs.model.ids import id_text
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Unique
from asyncjobs.store.answers import Placed

__all__ = [
    "has_new",
    "has_unique",
    "key_args",
    "read_met",
    "read_places",
    "terms_args",
    "unique_args",
]

# The modes of lua/unique.lua.
_MODES: Final = {"finished": b"f", "started": b"s", "window": b"w"}
# The words of lua/enqueue_unique.lua.
_NEW: Final = ord("1")
_HOW: Final[dict[int, Literal["there", "replaced", "held"]]] = {
    ord("0"): "there",
    ord("r"): "replaced",
    ord("h"): "held",
}
_MET: Final[dict[bytes, Literal["there", "replaced", "held"]]] = {
    how.encode(): how for how in _HOW.values()
}


def has_unique(job: NewJob) -> bool:
    """Whether the job wants to hold a key."""
    return job.terms is not None and job.terms.unique is not None


def unique_args(job: NewJob) -> bytes:
    """The terms of a new job, for lua/enqueue_unique.lua."""
    return terms_args(None if job.terms is None else job.terms.unique)


def terms_args(unique: Unique | None) -> bytes:
    """The same for the key itself."""
    if unique is None:
        return b""
    # Who may do both replaces: the script asks for the start of the holder first.
    conflict = b"-"
    if unique.hold:
        conflict = b"q"
    if unique.replace:
        conflict = b"h" if unique.hold else b"r"
    mode = _MODES[unique.until]
    return b"%b%b %d %d %b" % (mode, conflict, unique.ttl_ms, unique.latest_ms or 0, unique.key)


def key_args(unique: Unique | None) -> bytes:
    """The key that a dead job has to hold again, for lua/revive.lua."""
    # rule:21 a window keeps no dead job from its next try
    if unique is None or unique.until == "window":
        return b""
    return b"%b %d %b" % (_MODES[unique.until], unique.ttl_ms, unique.key)


def read_places(queue: str, answer: bytes) -> list[Placed | None]:
    """What became of each job of a batch, from the answer of lua/enqueue_unique.lua."""
    return [
        None if how == _NEW else Placed(JobRef(queue, id_text(id)), _HOW[how])
        for how, id in _parts(answer)
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
    return any(how == _NEW or _HOW[how] == "held" for how, _ in _parts(answer))


def _parts(answer: bytes) -> Iterator[tuple[int, bytes]]:
    # Ids may hold any byte, so each has its length in front of it.
    at = 0
    while at < len(answer):
        colon = answer.index(b":", at)
        end = colon + 1 + int(answer[at + 1 : colon])
        yield answer[at], answer[colon + 1 : end]
        at = end
