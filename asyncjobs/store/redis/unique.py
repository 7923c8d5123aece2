"""Unique jobs on a server: their terms as the scripts read them, and what became of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from asyncjobs.model.ids import id_text
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Unique
from asyncjobs.store.answers import Placed

__all__ = ["has_new", "has_unique", "key_args", "read_places", "unique_args"]

# The modes of lua/unique.lua.
_MODES: Final = {"finished": b"f", "started": b"s", "window": b"w"}
# The words of lua/enqueue_unique.lua.
_NEW: Final = ord("1")
_HOW: Final[dict[int, Literal["there", "replaced", "held"]]] = {
    ord("0"): "there",
    ord("r"): "replaced",
    ord("h"): "held",
}


def has_unique(job: NewJob) -> bool:
    """Whether the job wants to hold a key."""
    return job.terms is not None and job.terms.unique is not None


def unique_args(job: NewJob) -> bytes:
    """The terms of a new job, for lua/enqueue_unique.lua."""
    unique = None if job.terms is None else job.terms.unique
    if unique is None:
        return b""
    # Who may wait may replace, too: the script asks for the start of the holder first.
    conflict = b"-"
    if unique.hold:
        conflict = b"h"
    elif unique.replace:
        conflict = b"r"
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
