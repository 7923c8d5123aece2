"""The terms of a job: what it may wait for, and what its end lets go on."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias

__all__ = [
    "Arrival",
    "Barrier",
    "FallsOn",
    "FlowNode",
    "Gate",
    "LimitKind",
    "LimitRule",
    "LimitUse",
    "OnFailure",
    "Terms",
    "Unique",
    "Until",
    "WhenFull",
]

Until: TypeAlias = Literal["finished", "started", "window"]
"""When a unique key is free again: when the job that holds it has finished, when that job is first
taken, or only when the key's time is over."""
WhenFull: TypeAlias = Literal["wait", "cancel_running", "cancel_new"]
"""What happens when a job comes to a concurrency limit without room. `wait`: it waits. With
the others as many jobs as there are permits may run or wait under a key. `cancel_running`: the job
that has a permit longest is asked to stop, and this one waits for that end; if all of them were
asked already, the one that waits longest is cancelled. `cancel_new`: this one is cancelled."""
OnFailure: TypeAlias = Literal["cancel", "run", "skip"]
"""What happens to the jobs behind a barrier when a job in front of it has not succeeded. `cancel`:
they are cancelled, and count as failed for those behind them. `run`: they run as if it had
succeeded. `skip`: they are discarded, and count as succeeded for those behind them. It happens when
all arrivals have come, so that nothing starts before all in front of it has ended. Of several
failures the strongest decides: `cancel`, then `skip`."""
FallsOn: TypeAlias = Literal["all", "first_failure"]
"""When a barrier falls: when all arrivals have come, or with the first one that is a failure. One
that waits for a failure runs the jobs behind it, whatever `OnFailure` its arrivals have. If it sees
none it skips them when all arrivals have come."""


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


class LimitKind(StrEnum):
    """What a limit bounds: how many jobs run at once, or how many start in a time."""

    CONCURRENCY = "concurrency"
    RATE = "rate"


class LimitRule(NamedTuple):
    """The numbers of a limit.

    `number`: the permits that there are at once, or the starts in any `period_ms`. `burst`: how
    many of these starts may follow each other at once; 1 spreads them evenly.
    """

    kind: LimitKind
    number: int
    period_ms: int = 0
    burst: int = 1


class LimitUse(NamedTuple):
    """A limit that a job has to pass, and the key that it counts under there.

    A limit counts in one queue, by its name. `rule` holds from now on for the limit, or for this
    key alone (`is_own`), unless an operator has set another. `tokens`: how many starts this one
    counts for at a rate.
    """

    limit: str
    key: str
    rule: LimitRule
    is_own: bool = False
    tokens: int = 1


class Gate(NamedTuple):
    """What a job has to pass when it is taken: all of `uses` together, or none of them.

    Jobs with the same uses and the same `turn` wait in one lane, in the order of their priority,
    then in that in which they came. Lanes are served in turn: one with the share 3 gets three jobs
    where one with the share 1 gets one. Without uses the gate only shares fairly. `when_full`: see
    `WhenFull`; the concurrency limits of the gate decide.
    """

    uses: tuple[LimitUse, ...] = ()
    turn: str = ""
    share: int = 1
    when_full: WhenFull = "wait"


class Arrival(NamedTuple):
    """A barrier that the end of a job counts down, in this or another queue."""

    queue: str
    barrier: str
    on_failure: OnFailure = "cancel"


class Barrier(NamedTuple):
    """A counter with jobs behind it. They go on when `arrivals` jobs have ended.

    One that has fallen is gone: a job that comes behind it later goes on at once, and an arrival
    counts nothing. One that is there waits for so many more. So a job that adds others in front of
    a barrier raises it in the step of its success, before it counts itself down. One with the id of
    a flow of this queue raises the number of nodes that the flow waits for.
    """

    queue: str
    id: str
    arrivals: int
    falls_on: FallsOn = "all"


class FlowNode(NamedTuple):
    """The flow that a job belongs to: its end is recorded there, under the name of its node.

    `queue` is that of the flow, which may be another one than that of the job.
    """

    queue: str
    flow: str
    node: str


class Terms(NamedTuple):
    """Conditions of a job that the store itself keeps. Most jobs have none.

    They hold one after the other. A job whose unique key is taken is not stored. One `behind` a
    barrier of its own queue is held until that falls. Then it waits for its time, and then at its
    gate. `arrivals` are the barriers that its end counts down, and `node` is where its end is
    recorded. A store that cannot keep one of these terms refuses the job.
    """

    unique: Unique | None = None
    gate: Gate | None = None
    behind: str | None = None
    arrivals: tuple[Arrival, ...] = ()
    node: FlowNode | None = None
