"""What the ledger knows of pauses, orders, unique keys and turns, from calls and answers alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count
from typing import Any, Final

from asyncjobs.model.control import WorkerState
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.store.answers import Placed
from asyncjobs.store.control import OrderKind
from asyncjobs.store.lease import LeaseSpec
from tests.simulation.loop import Process, SimLoop
from tests.simulation.stories import JobStory

__all__ = ["QUIET_S", "Keys", "Orders", "Pauses", "Turns"]

QUIET_S: Final = 1.5
"""A worker that was ordered to be quiet takes no job after this time: a heartbeat has told it."""
Paused = tuple[str, str | None]


class Pauses:
    """What is paused in the store at this moment, and when the rest was resumed."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self._paused: set[Paused] = set()
        self._resumed_s: dict[Paused, float] = {}
        self.count = 0

    def pause(self, queues: Iterable[str], function: str | None) -> None:
        """The store has carried out a pause."""
        self.count += 1
        self._paused.update((queue, function) for queue in queues)

    def resume(self, queues: Iterable[str], function: str | None) -> None:
        """The store has carried out a resume."""
        for queue in queues:
            self._paused.discard((queue, function))
            self._resumed_s[queue, function] = self._loop.now_s

    def standing(self) -> list[Paused]:
        """All that is paused."""
        return sorted(self._paused, key=repr)

    def stops(self, queue: str, function: str) -> bool:
        """Whether nothing of this function may be handed out."""
        return not self._paused.isdisjoint({(queue, None), (queue, function)})

    def free_s(self, queue: str, function: str) -> float:
        """Since when nothing stops it; 0 when nothing ever did."""
        return max(self._resumed_s.get((queue, name), 0.0) for name in (None, function))


class Orders:
    """Which workers were ordered to be quiet, and under which names leases stand."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.entries: dict[Process, dict[str, str]] = {}
        """The present lease of each worker, by queue."""
        self.quiet: dict[Process, float] = {}
        """Since when."""
        self.count = 0

    def enter(self, process: Process, lease: LeaseSpec, queues: Iterable[str]) -> None:
        """Its lease stands under this name now."""
        self.entries.setdefault(process, {}).update((q, lease.entry(q)) for q in queues)

    def leave(self, process: Process) -> None:
        """It takes no orders any more."""
        self.entries.pop(process, None)
        self.quiet.pop(process, None)

    def order(self, args: tuple[Any, ...], answer: Sequence[bool]) -> list[Process]:
        """The store has taken an order in; those that may take jobs again by it."""
        entries, kind, value = args
        again = []
        for process, own in list(self.entries.items()):
            told = [
                is_there
                for entry, is_there in zip(entries, answer, strict=True)
                if own.get(entry[0]) == entry[1]
            ]
            if kind is not OrderKind.STATE or True not in told:
                continue
            self.count += 1
            if value == WorkerState.QUIET:
                self.quiet.setdefault(process, self._loop.now_s)
            elif self.quiet.pop(process, None) is not None:
                again.append(process)
        return again


class Turns:
    """Which jobs were ready first. Only of jobs that were never handed out, nor ever waited for
    a time or a key, it is known from outside."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def comes(self, story: JobStory, job: NewJob) -> None:
        """A new job is stored."""
        is_behind = job.terms is not None and job.terms.behind is not None
        is_at_once = not job.delay_ms and story.gate is None and not is_behind
        story.turn = next(self._numbers) if is_at_once else 0

    def overtaken(self, story: JobStory, stories: Iterable[JobStory]) -> Iterator[JobStory]:
        """The jobs that this one, which is handed out, has passed by."""
        turn, story.turn = story.turn, 0
        for other in stories:
            is_alike = other.ref.queue == story.ref.queue and other.priority == story.priority
            if is_alike and 0 < other.turn < turn and not other.finals:
                yield other


class Keys:
    """Who holds which unique key."""

    def __init__(self) -> None:
        self._tokens: set[str] = set()
        self.merged = 0

    def is_new(self, token: str) -> bool:
        """Whether this batch is answered for the first time: the answer to a copy repeats it."""
        before = len(self._tokens)
        self._tokens.add(token)
        return len(self._tokens) > before

    def place(
        self, story: JobStory, job: NewJob, place: Placed | None, stories: dict[JobRef, JobStory]
    ) -> str | None:
        """The answer to a new job; what is wrong with it, if anything is."""
        if place is not None and place.ref == job.ref and place.how != "held":
            return None  # the id was known
        others = self._others(story, stories.values())
        if place is None or place.is_new:
            story.stands_for, story.is_stored = None, True
            return self._check_new(story, place, others)
        self.merged += 1
        holder = stories[place.ref]
        story.stands_for = place.ref
        if holder not in others:
            return f"is left to {place.ref}, which does not hold its key"
        if place.how == "replaced":
            has_started = any(taking.started_s is not None for taking in holder.takings)
            # It has the call of the new job from now on, and stands behind all others.
            holder.expected, holder.function = story.expected, story.function
            holder.priority, holder.turn = job.priority, 0
            if has_started:
                return f"has replaced {place.ref}, which has started"
        return None

    def _check_new(
        self, story: JobStory, place: Placed | None, others: list[JobStory]
    ) -> str | None:
        if place is None and others:
            return f"has got the key of {others[0].ref}"
        if place is not None and len(others) != 1:
            return f"is held behind {[str(other.ref) for other in others]}"
        return None

    def beside(self, story: JobStory, stories: dict[JobRef, JobStory]) -> list[JobStory]:
        """The jobs that hold the key of this one, which is handed out: others that were handed
        out and have not ended."""
        return [other for other in self._others(story, stories.values()) if other.takings]

    def _others(self, story: JobStory, stories: Iterable[JobStory]) -> list[JobStory]:
        """Other jobs with this key that it has not left."""
        if not story.key:
            return []
        return [
            other
            for other in stories
            if other.key == story.key
            and other is not story
            and other.is_stored
            and not other.finals
            and not (story.is_free_at_start and other.takings)
        ]
