"""Where the lanes of one queue in memory stand: in line for a worker, or aside at a key."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import TypeAlias

from asyncjobs.model.job import Priority
from asyncjobs.model.terms import Gate, LimitUse
from asyncjobs.store.memory import lanes
from asyncjobs.store.memory.lanes import LaneName, Line, name_of
from asyncjobs.store.memory.news import News
from asyncjobs.store.memory.permits import LimitKey, LimitKeys, Use
from asyncjobs.store.memory.stored import StoredJob
from asyncjobs.store.memory.structures import Timed

__all__ = ["Lane", "Lineup"]

Lane: TypeAlias = lanes.Lane[StoredJob]


class Lineup:
    """Owns the lanes of a queue, and the lines of those that only need a worker: one for each
    priority, for a lane is as urgent as its first job.

    A lane without room stands aside, at the key that has none, so nobody looks at it. What makes
    room lets in as many lanes. A lane that was let in and does not use the room lets in the next
    one: else lanes would wait beside room for ever.
    """

    def __init__(self, keys: LimitKeys, news: News) -> None:
        self.lines: tuple[Line[StoredJob], ...] = tuple(Line() for _ in Priority)
        self._served = dict.fromkeys(Priority, 0.0)
        """The turn of the lane that was served last: now, in the virtual time of a priority."""
        self._keys = keys
        self._news = news
        self._lanes: dict[LaneName, Lane] = {}
        self._opening: Timed[LimitKey] = Timed()
        """The keys that lanes wait at until a time."""

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def lane_of(self, gate: Gate, now: int) -> Lane:
        """The lane for jobs with this gate, made when it is new."""
        # Not those that are known: a job that comes back may have the rules of an older release.
        self.declare((use for use in gate.uses if self._keys.lacks(use)), now)
        name = name_of(gate)
        lane = self._lanes.get(name)
        share = max(gate.share, 1)
        if lane is None:
            tokens = {(limit, key): count for limit, key, count in name.uses}
            uses = tuple(Use(self._keys.get(each), count) for each, count in tokens.items())
            lane = self._lanes[name] = Lane(name, uses, self._served[Priority.CRITICAL] + 1 / share)
            for key, _ in uses:
                key.lanes[lane] = None
        lane.share = share
        return lane

    def declare(self, uses: Iterable[LimitUse], now: int) -> None:
        """Let the rules that code gives hold from now on."""
        for use in uses:
            for key in self._keys.declare(use):
                self.rule_changed(key, now)

    def drop_idle(self, lane: Lane) -> None:
        """Drop a lane that is empty, and the keys that nothing is known of then."""
        if len(lane):
            return
        self._lanes.pop(lane.name, None)
        for key, _ in lane.uses:
            key.lanes.pop(lane, None)
            self._keys.drop_idle(key)

    # Coming in line, and standing aside

    def obstacle(self, lane: Lane, now: int) -> LimitKey | None:
        """The key that keeps its next job from passing."""
        for use in lane.uses:
            opens = self._keys.opens_ms(use, now)
            if opens is None or opens > now:
                return use.key
        return None

    def stand(self, lane: Lane, now: int) -> None:
        """Let a lane stand where it belongs, if it stands nowhere."""
        priority = lane.first_priority()
        if lane.line is not None or priority is None:
            return
        self._set_turn(lane, priority)
        key = self.obstacle(lane, now)
        if key is None:
            self.lines[priority].put(lane)
            self._news.is_ready = True
            return
        # A lane without room stands aside.
        key.barred.put(lane)
        self._note_opening(key, now)

    def _set_turn(self, lane: Lane, priority: Priority) -> None:
        """Let a lane have its turn among those of this priority."""
        behind = max(lane.turn - self._served[lane.priority], 0)
        # A lane that stood aside has saved up nothing.
        lane.turn = self._served[priority] + behind
        lane.priority = priority

    def rise(self, lane: Lane, now: int) -> None:
        """The first job of a lane may be another one now."""
        # rule:35 a lane is as urgent as its first job, in memory
        if lane.line is not None and lane.first_priority() not in (None, lane.priority):
            lane.line.remove(lane)
            self.stand(lane, now)

    def serve(self, lane: Lane) -> None:
        """Count the turn of a lane: one job is taken from it."""
        now = max(self._served[lane.priority], lane.turn)
        self._served[lane.priority] = now
        # rule:35 each lane is served in its turn, in memory
        lane.turn = now + 1 / lane.share

    def let_in(self, key: LimitKey, now: int, most: int) -> None:
        """Let lanes come in line that wait at a key, as far as they may pass it."""
        while most > 0 and (lane := key.barred.first()) is not None:
            if not self._may_pass(lane, key, now):
                break
            key.barred.remove(lane)
            self.stand(lane, now)
            # One that has to wait at another key now does not use the room.
            most -= lane.is_in_line
        self._note_opening(key, now)

    def pass_on(self, lane: Lane, now: int) -> None:
        """Let others in for the room that a lane does not use."""
        for key, _ in lane.uses:
            # rule:35 a lane that cannot use its permit lets in the next one, in memory
            self.let_in(key, now, 1)

    def tidy(self, lane: Lane, now: int) -> None:
        """A job was taken out of a lane: one that has none to give leaves its line."""
        if lane.has_next():
            self.rise(lane, now)
            return
        if lane.line is not None:
            lane.line.remove(lane)
        self.pass_on(lane, now)
        self.drop_idle(lane)

    def open(self, now: int) -> None:
        """Let lanes come in line whose keys have opened."""
        while (first := self._opening.first_ms()) is not None and first <= now:
            self.let_in_all(self._opening.pop_first(), now)

    def let_in_all(self, key: LimitKey, now: int) -> None:
        """Let in as many lanes as there is room for."""
        self.let_in(key, now, max(self._keys.places(key, now), 1))

    def rule_changed(self, key: LimitKey, now: int) -> None:
        """Another rule holds for a key."""
        self._keys.forgive(key, now)
        self.look_again(key.lanes, now)
        # rule:35 jobs that may go on with another rule do so at once, in memory
        self.let_in_all(key, now)

    def look_again(self, lanes: Collection[Lane], now: int) -> None:
        """Let lanes stand aside that have come in line and have no room any more."""
        for lane in list(lanes):
            if lane.line is not None and lane.is_in_line:
                lane.line.remove(lane)
                self.stand(lane, now)
            elif lane.barred_at is not None:
                self._note_opening(lane.barred_at, now)

    def pull_back(self, now: int) -> None:
        """The clock has gone back: no key is closed for longer, and no lane waits longer."""
        self._keys.pull_back(now)
        for key in self._keys:
            # rule:35 no lane waits for as long as a step back of the clock, in memory
            self.let_in_all(key, now)

    def _may_pass(self, lane: Lane, key: LimitKey, now: int) -> bool:
        opens = self._opens(lane, key, now)
        return opens is not None and opens <= now

    def _opens(self, lane: Lane, key: LimitKey, now: int) -> int | None:
        use = next(use for use in lane.uses if use.key is key)
        return self._keys.opens_ms(use, now)

    def _note_opening(self, key: LimitKey, now: int) -> None:
        """Come back when the first lane that waits there may pass, if time alone decides that."""
        lane = key.barred.first()
        opens = None
        if lane is not None:
            opens = self._opens(lane, key, now)
        if opens is None:
            self._opening.pop(_text(key))
            return
        if opens <= now:
            # The room is there for a lane that was let in. That one passes it on.
            return
        first = self.next_open_ms
        self._opening.put(_text(key), opens, key)
        # A sleeping worker must learn of a new earliest time, or it sleeps past it.
        self._news.is_ready |= first is None or opens < first

    # What stands here

    def in_line(self) -> Iterator[Lane]:
        """The lanes that only need a worker, in any order."""
        return chain.from_iterable(self.lines)

    @property
    def next_open_ms(self) -> int | None:
        """When the first key opens that lanes wait at."""
        return self._opening.first_ms()

    def crashes(self) -> Iterator[int]:
        """The numbers of crashes of suspects that only need a worker."""
        return (crashes for lane in self.in_line() for crashes in lane.crashes() if crashes)

    def ready_jobs(self, priority: int) -> Iterator[StoredJob]:
        """The jobs of one priority whose lanes only need a worker."""
        return chain.from_iterable(lane.lists[priority] for lane in self._ready())

    def held_jobs(self) -> Iterator[StoredJob]:
        """The jobs whose lanes wait for room."""
        return chain.from_iterable(
            lane for lane in self._lanes.values() if lane.barred_at is not None
        )

    @property
    def ready(self) -> tuple[int, int, int, int]:
        """How many jobs only need a worker, by priority."""
        critical, high, normal, low = (
            sum(len(lane.lists[priority]) for lane in self._ready()) for priority in Priority
        )
        return critical, high, normal, low

    @property
    def held(self) -> int:
        """How many jobs wait for room."""
        return sum(len(lane) for lane in self._lanes.values() if lane.barred_at is not None)

    @property
    def oldest_ready_ms(self) -> int | None:
        """Since when the oldest job is ready that only needs a worker."""
        return min(
            (ms for lane in self._ready() if (ms := lane.oldest_ms()) is not None), default=None
        )

    def _ready(self) -> Iterator[Lane]:
        return (lane for lane in self._lanes.values() if lane.barred_at is None)


def _text(key: LimitKey) -> str:
    limit, name = key.name
    return f"{len(limit)}:{limit}{name}"
