"""Barriers of one queue in memory: the jobs behind them, and what the end of a job lets go on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple, Protocol, TypeAlias

from asyncjobs.model.job import NewJob, State, held_behind
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, Barrier, FallsOn, FlowNode, OnFailure, Terms
from asyncjobs.store.flows import Obstacle
from asyncjobs.store.memory.flow_book import FlowBook
from asyncjobs.store.memory.stored import StoredJob

__all__ = ["Barriers", "Finish", "Outcomes"]

GoOn: TypeAlias = Callable[[StoredJob, int, int], None]
"""Lets a job wait until it is due, or makes it ready."""
Finish: TypeAlias = Callable[[StoredJob, State, int], None]
"""Ends a job that no worker has taken."""

_STRENGTH: Final[dict[OnFailure, int]] = {"run": 0, "skip": 1, "cancel": 2}


class Outcomes(Protocol):
    """Who hears of the end of a job, in whatever queue: barriers and flows."""

    def lift(self, barriers: Iterable[Barrier]) -> None:
        """Let barriers wait for more arrivals."""
        ...

    def arrive(self, arrival: Arrival, has_failed: bool, now: int) -> None:
        """A job in front of a barrier has ended."""
        ...

    def record(
        self, node: FlowNode, job: JobRef, state: State, now: int, *, may_succeed: bool
    ) -> None:
        """A node has ended. `may_succeed`: its flow may after that."""
        ...


class _Standing:
    """A barrier that has not got all its arrivals."""

    __slots__ = ("behind", "failure", "falls_on", "has_fallen", "left", "started")

    def __init__(self, falls_on: FallsOn) -> None:
        self.falls_on: FallsOn = falls_on
        self.left = 0
        self.failure: OnFailure | None = None
        """What the failures in front do to the jobs behind."""
        self.has_fallen = False
        """It was to fall with the first failure, and has."""
        self.started: set[str] = set()
        """The flows whose start has counted here."""
        self.behind: dict[str, _Behind] = {}


class _Behind(NamedTuple):
    """A job behind a barrier, and when it is due once that falls."""

    job: StoredJob
    due_ms: int


class _End(NamedTuple):
    """What becomes of the jobs that a barrier has let go."""

    jobs: list[_Behind]
    verdict: OnFailure


class Barriers:
    """Owns the barriers of a queue, and what its living jobs count down when they end.

    Jobs that are let go are handed to `go_on`; those that must not run end by `finish`.
    """

    def __init__(self, queue: str, go_on: GoOn, finish: Finish, outcomes: Outcomes) -> None:
        self._queue = queue
        self._go_on = go_on
        self._finish = finish
        self._outcomes = outcomes
        self.flows = FlowBook(queue)
        """A flow is one more barrier, under its own id: it waits for the ends of its nodes."""
        self._standing: dict[str, _Standing] = {}
        self._place: dict[str, str] = {}
        """The barrier of each job that is held behind one."""
        self._arrivals: dict[str, tuple[Arrival, ...]] = {}
        self._nodes: dict[str, FlowNode] = {}
        self._falling: deque[_End] = deque()
        self._is_falling = False

    @property
    def standing(self) -> int:
        """How many barriers there are."""
        return len(self._standing)

    @property
    def held(self) -> int:
        """How many jobs are held behind them."""
        return len(self._place)

    def held_jobs(self) -> list[StoredJob]:
        """Those jobs."""
        return [self._standing[barrier].behind[id].job for id, barrier in self._place.items()]

    def obstacle(self, id: str) -> Obstacle | None:
        """The barrier that a job is held behind."""
        barrier = self._place.get(id)
        if barrier is None:
            return None
        return Obstacle(barrier, self._standing[barrier].left)

    # Jobs come and go

    def announce(self, barriers: Iterable[Barrier]) -> None:
        """Let barriers wait for more arrivals, of whatever queue they are."""
        self._outcomes.lift(barriers)

    def lift(self, barriers: Iterable[Barrier]) -> None:
        """Let these barriers and flows wait for so many more ends; a barrier that is new stands
        from now on."""
        for barrier in barriers:
            # rule:36 a success that adds to its flow lets it wait for that, in memory
            if self.flows.expect(barrier.id, barrier.arrivals):
                continue
            standing = self._standing.get(barrier.id)
            # One that waits for nobody has fallen: nobody would ever let it fall.
            if standing is None and barrier.arrivals > 0:
                standing = self._standing[barrier.id] = _Standing(barrier.falls_on)
            if standing is not None:
                standing.left += barrier.arrivals

    def enter(self, id: str, terms: Terms) -> None:
        """A job is stored: its end will count."""
        if terms.arrivals:
            self._arrivals[id] = terms.arrivals
        if terms.node is not None:
            self._nodes[id] = terms.node

    def hold(self, job: StoredJob, terms: Terms | None, due: int, now: int) -> bool:
        """Hold a job until its barrier falls; False when it has none, or that has fallen."""
        if terms is None or (barrier := terms.behind) is None:
            return False
        standing = self._standing.get(barrier)
        # rule:36 a job goes on at once when its barrier has fallen, in memory
        if standing is None or standing.has_fallen:
            return False
        job.held_by = held_behind(barrier)
        job.held_ms = now
        standing.behind[job.id] = _Behind(job, due)
        self._place[job.id] = barrier
        return True

    def put_off(self, job: StoredJob, due: int) -> bool:
        """A job is due at another time, once it is let go; False when it is behind no barrier."""
        barrier = self._place.get(job.id)
        if barrier is None:
            return False
        self._standing[barrier].behind[job.id] = _Behind(job, due)
        return True

    def unhold(self, job: StoredJob) -> bool:
        """A job is taken out; False when it is behind no barrier."""
        barrier = self._place.pop(job.id, None)
        if barrier is None:
            return False
        del self._standing[barrier].behind[job.id]
        job.held_by = None
        return True

    # Ends

    def end(self, id: str, state: State, now: int, *, is_skipped: bool = False) -> None:
        """A job has ended. It counts once, however it has ended."""
        arrivals = self._arrivals.pop(id, ())
        node = self._nodes.pop(id, None)
        if arrivals or node is not None:
            self._count(id, arrivals, node, state, now, is_skipped=is_skipped)

    def absent(self, new: NewJob, now: int) -> None:
        """A job is not stored, for another one has its unique key: its end would never come."""
        if new.terms is not None:
            # rule:36 a job that is not stored for its unique key holds up nobody, in memory
            arrivals, node = new.terms.arrivals, new.terms.node
            self._count(new.id, arrivals, node, State.DISCARDED, now, is_skipped=False)

    def _count(
        self,
        id: str,
        arrivals: tuple[Arrival, ...],
        node: FlowNode | None,
        state: State,
        now: int,
        *,
        is_skipped: bool,
    ) -> None:
        # rule:36 what is skipped counts as a success for those behind it, in memory
        has_failed = state is not State.SUCCEEDED and not is_skipped
        for arrival in arrivals:
            self._outcomes.arrive(arrival, has_failed, now)
        if node is not None:
            # rule:36 a failure is allowed when each edge behind it says so, in memory
            is_allowed = bool(arrivals) and all(each.on_failure != "cancel" for each in arrivals)
            self._outcomes.record(
                node,
                JobRef(self._queue, id),
                state,
                now,
                may_succeed=not has_failed or is_allowed,
            )

    def arrive(self, barrier: str, failure: OnFailure | None, now: int) -> None:
        """A job in front of the barrier has ended; `failure` says what that does, if it failed."""
        standing = self._standing.get(barrier)
        # rule:36 an arrival at a barrier that has fallen counts nothing, in memory
        if standing is None:
            return
        standing.left -= 1
        # rule:36 the strongest of several failures decides, in memory
        if failure is not None and _STRENGTH[failure] >= _STRENGTH[standing.failure or "run"]:
            standing.failure = failure
        self._look(barrier, standing, now)

    def start(self, barrier: str, flow: str, now: int) -> None:
        """The flow starts: count its arrival, once."""
        standing = self._standing.get(barrier)
        # rule:36 the start of a flow counts once at a barrier, in memory
        if standing is not None and flow not in standing.started:
            standing.started.add(flow)
            self.arrive(barrier, None, now)

    def _look(self, barrier: str, standing: _Standing, now: int) -> None:
        """Let the barrier fall if it is time for that."""
        awaits_failure = standing.falls_on == "first_failure"
        # rule:36 a barrier that waits for a failure falls with the first one, in memory
        if awaits_failure and standing.failure is not None and not standing.has_fallen:
            standing.has_fallen = True
            self._let_go(standing, "run", now)
        # rule:36 a barrier falls when all arrivals have come, in memory
        if standing.left > 0:
            return
        del self._standing[barrier]
        verdict: OnFailure = standing.failure or "run"
        if awaits_failure:
            verdict = "skip"
        self._let_go(standing, verdict, now)

    def _let_go(self, standing: _Standing, verdict: OnFailure, now: int) -> None:
        # They are taken out first, so that whoever looks meanwhile finds them in one place.
        jobs = [*standing.behind.values()]
        standing.behind.clear()
        for behind in jobs:
            del self._place[behind.job.id]
            behind.job.held_by = None
        self._falling.append(_End(jobs, verdict))
        # A job that is cancelled lets others fall, and so on: a long chain must not go deep.
        if self._is_falling:
            return
        self._is_falling = True
        try:
            while self._falling:
                self._empty(self._falling.popleft(), now)
        finally:
            self._is_falling = False

    def _empty(self, end: _End, now: int) -> None:
        for job, due_ms in end.jobs:
            if end.verdict == "run":
                self._go_on(job, due_ms, now)
                continue
            # rule:36 what must not run ends in the step in which its barrier falls, in memory
            state = State.CANCELLED
            if end.verdict == "skip":
                state = State.DISCARDED
            self.end(job.id, state, now, is_skipped=end.verdict == "skip")
            self._finish(job, state, now)
