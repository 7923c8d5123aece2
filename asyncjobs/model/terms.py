"""The terms of a job: what it may wait for, and what its end lets go on."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

__all__ = ["Arrival", "Barrier", "Gate", "Terms", "Unique", "Until"]

Until: TypeAlias = Literal["finished", "started", "window"]
"""When a unique key is free again: when the job that holds it has finished, when that job is first
taken, or only when the key's time is over."""


class Unique(NamedTuple):
    """At most one job at a time holds `key` in its queue.

    `until` says when the key is free again. It is free in any case `ttl_ms` after its job was due;
    a window lasts `ttl_ms` from the enqueue. A new job whose key is held is not stored, and the
    holder stands in its place.

    `replace`: a holder that no worker has taken yet gets the call, the priority and the time of the
    new job, and `ttl_ms` starts again. It is due `latest_ms` after the first call at the latest.
    Once it is ready by then and waits for a worker only, a key that lasts until the start is free.
    `hold`: behind a holder that was taken, and whose key lasts until it has finished, one job is
    held until that end. With `replace` a later one replaces it; else the first one stays, and so
    does a holder that was not taken yet.
    """

    key: bytes
    until: Until
    ttl_ms: int
    replace: bool = False
    hold: bool = False
    latest_ms: int | None = None


class Gate(NamedTuple):
    """What a job has to pass before it is taken.

    `limits`: pairs of a limit and the key that counts there. `turn`: jobs with different turns
    that wait at the same limit get fair shares of it.
    """

    limits: tuple[tuple[str, str], ...] = ()
    turn: str = ""


class Arrival(NamedTuple):
    """A barrier that the end of a job counts down."""

    queue: str
    barrier: str


class Barrier(NamedTuple):
    """A counter with jobs behind it. They become ready when `arrivals` jobs have ended."""

    queue: str
    id: str
    arrivals: int


class Terms(NamedTuple):
    """Conditions of a job that the store itself keeps. Most jobs have none.

    `behind`: the job waits behind this barrier of its own queue. `arrivals`: the barriers that the
    end of the job counts down. A store that cannot keep one of these terms refuses the job.
    """

    unique: Unique | None = None
    gate: Gate | None = None
    behind: str | None = None
    arrivals: tuple[Arrival, ...] = ()
