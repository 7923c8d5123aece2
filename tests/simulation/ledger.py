"""What happened, written down outside of the store, and what must hold of it.

The store is believed in one thing only: which calls it has carried out and what it has
answered. Who may hold a job follows from that: whoever was handed it last, until its
settlement, its farewell, or the end of its lease.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from asyncjobs.model.job import JobRecord, NewJob, State, TakenJob
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.store.answers import CancelVerdict, Enqueued, Exchange
from asyncjobs.store.lease import LeaseSpec
from asyncjobs.store.seam import EnqueueBatch
from tests.simulation.fronts import Fronts, states_of
from tests.simulation.leases import Leases
from tests.simulation.loop import START_S, Process, SimLoop
from tests.simulation.permits import Permits
from tests.simulation.rules import QUIET_S, Keys, Orders, Pauses, Turns
from tests.simulation.stories import JobStory, Taking, crashes_after

__all__ = ["Ledger"]

PROMPT_S: Final = 4.0
"""A job that was handed out starts within this time, and one whose lease is gone stops,
counted from the last trouble that its worker had."""
STOP_S: Final = 1.0
"""A running job that was cancelled stops within this time, counted likewise."""
IDLE_S: Final = 0.5
"""A ready job does not wait longer than this beside a worker with a free slot."""
RECLAIM_S: Final = 30.0
"""A job of a dead worker does not wait longer than this, whatever happens to others."""
CALM_S: Final = 6.0
"""After this time without any trouble nobody has lost a call that woke him."""

ASLEEP: Final = frozenset(
    {
        "enqueue",
        "cancel",
        "beat",
        "listen",
        "reclaim",
        "prune",
        "register",
        "add_figures",
        "flows.open",
        "flows.add_nodes",
        "flows.start",
        "flows.mark_cancelled",
        "control.queues.pause",
        "control.queues.resume",
        "control.queues.purge",
        "control.workers.order",
    }
)
"""Calls that wake nobody: whatever befalls them, workers with free slots wake up."""


class Ledger:
    """Owns the stories of all jobs, the trace, and what was found to be wrong."""

    def __init__(self, loop: SimLoop) -> None:
        self._loop = loop
        self.trace: list[tuple[Any, ...]] = []
        self.wrong: list[str] = []
        self.stories: dict[JobRef, JobStory] = {}
        self.unfinished = 0
        self._leases = Leases(loop)
        self._died_s: dict[Process, float] = {}
        self._troubles: dict[Process, list[float]] = {}
        self._trouble_s = 0.0
        self.concurrency = 1
        self._held: dict[Process, int] = {}
        self._free_s: dict[Process, float] = {}
        self._resting: set[Process] = set()
        self.pauses = Pauses(loop)
        self.orders = Orders(loop)
        self.keys = Keys()
        self.permits = Permits(loop)
        self.fronts = Fronts()
        self._turns = Turns()
        self._just_finished: list[JobStory] = []
        """By the call that is being carried out."""

    def note(self, process: Process, *what: Any) -> None:
        """Add to the trace."""
        self.trace.append((round(self._loop.now_s - START_S, 6), process.name, *what))

    def violated(self, ref: JobRef | None, text: str) -> None:
        """Something that must never be."""
        self.trace.append((round(self._loop.now_s - START_S, 6), "WRONG", str(ref), text))
        self.wrong.append(f"{ref}: {text}" if ref is not None else text)

    def trouble(self, process: Process, call: str, what: str) -> None:
        """The world has done something to this process: to this call, if it is one."""
        now_s = self._loop.now_s
        if call not in ASLEEP:
            self._trouble_s = now_s
        self._troubles.setdefault(process, []).append(now_s)
        self.note(process, what, call)

    def dies(self, process: Process) -> None:
        """It has crashed: what it holds is for others, soon."""
        self._died_s[process] = self._loop.now_s
        self.leaves(process)
        self.trouble(process, "", "crashes")

    def leaves(self, process: Process) -> None:
        """This worker takes no more jobs: it has died, or was told to stop."""
        for ref, story in self.stories.items():
            if story.holder is not None and story.holder.process is process:
                self._check_prompt(ref, story.holder)
        self.may_rest(process)

    def may_rest(self, process: Process) -> None:
        """This worker may have a free slot and want no job: it ends, or will end by itself."""
        self._resting.add(process)
        self._held[process] = 1_000_000  # no slot is free, whatever ends
        self._free_s.pop(process, None)

    def _hold(self, process: Process, change: int) -> None:
        if process in self._held:
            held = self._held[process] = self._held[process] + change
            if held >= self.concurrency:
                self._free_s.pop(process, None)
            else:
                self._free_s.setdefault(process, self._loop.now_s)

    def expect(self, job: NewJob, expected: State, budget: int) -> JobStory:
        """A job is about to be enqueued."""
        story = self.stories[job.ref] = JobStory(job, expected, budget)
        self.unfinished += 1
        return story

    # ── what the jobs say ──────────────────────────────────────────────────────────────

    def decided(self, ref: JobRef) -> None:
        """A worker has made up its mind to start a job: it has to be sure of its lease.

        Later, in the body, it would be too late to ask: it may have been paused before.
        """
        process = self._loop.current
        taking = self._taking(ref, process)
        # A step of the store's clock may have taken it before: that it cannot know.
        if not self._leases.may_be_trusted(taking.entry):
            self.violated(ref, f"is started by {process.name}, whose lease is over")

    def _taking(self, ref: JobRef, process: Process) -> Taking:
        """The last one by this process."""
        for taking in reversed(self.stories[ref].takings):
            if taking.process is process:
                return taking
        self.violated(ref, f"runs on {process.name}, which never took it")
        raise AssertionError("a job without a taking")

    def started(self, ref: JobRef, attempt: int) -> Taking:
        """The body of a job has begun in the present process."""
        process, now_s = self._loop.current, self._loop.now_s
        self.note(process, "starts", ref.id, attempt)
        taking = self._taking(ref, process)
        if taking.started_s is not None:
            self.violated(ref, f"runs twice on {process.name} although it was taken once")
        if attempt != taking.attempt:
            self.violated(ref, f"runs as attempt {attempt}, taken as {taking.attempt}")
        taking.started_s = now_s
        self._check_prompt(ref, taking)
        return taking

    def ended(self, ref: JobRef, taking: Taking, how: str) -> None:
        """The body of a job has ended, in whatever way."""
        self.note(self._loop.current, "ends", ref.id, how)
        taking.ended_s, taking.how = self._loop.now_s, how

    # ── what the store has done ────────────────────────────────────────────────────────

    def applied(self, process: Process, name: str, args: tuple[Any, ...], answer: Any) -> None:
        """The store has carried out a call of `process`."""
        if name == "exchange":
            self._exchanged(process, args[0], args[2], answer)
        elif name == "beat":
            for queue in args[0].queues:
                self._leases.hear(queue, args[0].grace_ms)
                if queue not in answer.lost:
                    self._leases.renew(queue, args[0])
            if answer.lost or answer.cancels:
                self.note(process, "beats", answer.lost, [ref.id for ref in answer.cancels])
        elif name == "enter":
            for queue in args[0].queues if args[1] is None else args[1]:
                self._leases.hear(queue, args[0].grace_ms)
                self._leases.renew(queue, args[0])
            self.orders.enter(process, args[0], args[0].queues if args[1] is None else args[1])
            self.note(process, "registers", args[1])
        elif name == "leave":
            self.note(process, "deregisters")
            self.orders.leave(process)
            for story in self.stories.values():
                taking = story.holder
                if taking is not None and taking.entry[1] == args[0].entry(taking.entry[0]):
                    # Over, it may have been reclaimed before, and nobody has said so.
                    is_sure = self._leases.lives(taking.entry)
                    self._settle(story, taking, "release" if is_sure else "release or lapse")
            for queue in args[0].queues:
                self._leases.forget((queue, args[0].entry(queue)))
        elif name == "resync":
            self.note(process, "resyncs", args[1], [job.id for job in answer.missing], answer.lost)
        elif name == "reclaim":
            for queue in args[0]:
                self._leases.hear(queue, args[1])
            if answer.leases or answer.returned:
                self.permits.all_freed()
                self.note(process, "reclaims", answer.leases, answer.returned)
            if early := self._leases.end(args[0], answer.leases):
                self.violated(None, f"{process.name} ended {early} leases that were not over")
        elif name == "cancel":
            self._cancelled(process, args[0], answer)
        elif name == "enqueue":
            self.note(process, "enqueues", [job.id for job in args[0].jobs], answer)
            self._enqueued(args[0], answer)
        elif name.startswith("flows."):
            self.note(process, name, args[0], answer)
            if name == "flows.mark_cancelled" and answer:
                self.fronts.cancelled(args[0])
            elif name == "flows.start":
                self.fronts.started(args[0], self.stories)
        elif name.startswith("control."):
            self.note(process, name.removeprefix("control."), *args[:2], answer)
            self._operated(process, name, args, answer)
        self._just_finished.clear()

    def refused(self, process: Process, name: str, args: tuple[Any, ...], error: Exception) -> None:
        """The store has answered a call with an error."""
        self.note(process, name, type(error).__name__)
        self._just_finished.clear()

    def _enqueued(self, batch: EnqueueBatch, answer: Enqueued) -> None:
        if not self.keys.is_new(batch.token):
            return
        for job, place in zip(batch.jobs, answer.places, strict=True):
            story = self.stories[job.ref]
            was_left_out = story.stands_for is not None
            if wrong := self.keys.place(story, job, place, self.stories):
                self.violated(job.ref, wrong)
            # One that another has stood in for may be stored by a later try.
            self.unfinished += was_left_out - (story.stands_for is not None)
            if place is None:
                self._turns.comes(story, job)

    def _operated(self, process: Process, name: str, args: tuple[Any, ...], answer: Any) -> None:
        if name.endswith("pause"):
            self.pauses.pause(*args[:2])
        elif name.endswith("resume"):
            self.pauses.resume(*args)
        elif name.endswith("purge"):
            for story in self._just_finished:
                story.is_cancelled = True
                holder = story.holder
                if holder is not None and self._leases.lives(holder.entry):
                    self.violated(story.ref, f"was purged while {holder.process.name} held it")
                # It may be cancelled for a job in front, which was purged.
                is_asked = not self.fronts.follows(story, self._just_finished)
                if is_asked and args[0].function not in (None, story.function):
                    self.violated(story.ref, f"was purged with all {args[0].function}")
            if args[0].is_trial and self._just_finished:
                self.violated(None, "a trial of a purge has cancelled jobs")
        else:
            for again in self.orders.order(args, answer):
                self._works_again(again)

    def _works_again(self, process: Process) -> None:
        """It was quiet. It hears of the order when its heartbeat is not lost."""
        self._trouble_s = self._loop.now_s
        if process not in self._resting and process in self._held:
            self._free_s.pop(process, None)
            self._held[process] = 0
            held = sum(
                story.holder is not None and story.holder.process is process
                for story in self.stories.values()
            )
            self._hold(process, held)

    def _exchanged(
        self,
        process: Process,
        lease: LeaseSpec,
        settlements: Sequence[Settlement],
        answer: Exchange,
    ) -> None:
        if process not in self._held:
            self._held[process] = 0
            self._hold(process, 0)
        for settlement in settlements:
            if settlement.job.queue in answer.lost:
                continue
            story = self.stories[settlement.job.ref]
            taking = story.holder
            entry = (settlement.job.queue, settlement.job.holder)
            holds = (
                taking is not None
                and taking.entry == entry
                and taking.receipt == settlement.job.receipt
            )
            if any(settlement is other for other in answer.not_yours):
                self.note(process, "is refused", settlement.job.id, settlement.state.value)
                if holds and self._leases.lives(entry):
                    self.violated(story.ref, f"{process.name} holds it, but its word was refused")
            elif not holds or taking is None:
                self.violated(story.ref, f"settled by {process.name}, which does not hold it")
            else:
                self._settled(process, story, taking, settlement)
        if answer.jobs:
            self.note(process, "takes", [job.id for job in answer.jobs])
        for job in answer.jobs:
            self._taken(process, lease, job)

    def _settled(
        self, process: Process, story: JobStory, taking: Taking, settlement: Settlement
    ) -> None:
        self.note(process, "settles", story.ref.id, settlement.state.value)
        if settlement.kind is SettlementKind.RESCHEDULE:
            is_snooze = taking.how == "snoozed"
            self._settle(story, taking, "snooze" if is_snooze else "retry")
            # Also one that was stopped: only its time-out can be followed by a retry.
            story.attempts += not is_snooze
        else:
            self._settle(story, taking, settlement.kind.value)
            if settlement.state is State.SUCCEEDED and taking.how != "returned":
                self.violated(story.ref, f"succeeded, but its body {taking.how or 'never ran'}")

    def _settle(self, story: JobStory, taking: Taking, kind: str) -> None:
        taking.settled = kind
        story.holder = None
        self.permits.freed(story)
        self._hold(taking.process, -1)

    def finished(self, ref: JobRef) -> None:
        """The store has recorded an outcome."""
        story = self.stories[ref]
        story.finals += 1
        self.unfinished -= 1
        self._just_finished.append(story)
        if story.finals > 1:
            self.violated(ref, "has more than one recorded outcome")

    def _taken(self, process: Process, lease: LeaseSpec, job: TakenJob) -> None:
        story, now_s = self.stories[job.ref], self._loop.now_s
        taking = Taking(process, (job.queue, lease.entry(job.queue)), job, now_s)
        before = story.takings[-1] if story.takings else None
        if story.finals:
            self.violated(job.ref, "was handed out after its outcome had been recorded")
        if story.holder is not None:
            self._check_taken_from(story.holder, job)
            story.holder.lapsed = True
            self._hold(story.holder.process, -1)
            if story.holder.process.is_running:
                self._check_prompt(job.ref, story.holder)
        if taking.attempt != story.attempts:
            self.violated(job.ref, f"taken as attempt {taking.attempt}, due is {story.attempts}")
        if taking.attempt > story.budget:
            self.violated(job.ref, f"taken as attempt {taking.attempt} of {story.budget}")
        if job.crashes not in crashes_after(before):
            seen = crashes_after(before)
            self.violated(job.ref, f"has {job.crashes} crashes, seen were {seen}")
        self._check_rules(process, story)
        if before is None or before.settled in ("retry", "snooze"):
            self._check_awake(job, story, now_s)
        story.takings.append(taking)
        story.holder = taking
        self._hold(process, 1)

    def unheard(self, jobs: Sequence[TakenJob], other: asyncio.Future[Any], most_s: float) -> None:
        """A copy of a call that its sender knows nothing of has taken these.

        The sender waits for the answer of the `other` copy, for `most_s` at the most. Only that
        one tells him to ask what he holds.
        """
        takings = [self.stories[job.ref].takings[-1] for job in jobs]
        for taking in takings:
            taking.heard_s = self._loop.now_s + most_s

        def hear(_: object) -> None:
            for taking in takings:
                taking.heard_s = min(taking.heard_s, self._loop.now_s)

        other.add_done_callback(hear)

    def _check_taken_from(self, holder: Taking, job: TakenJob) -> None:
        """Not from the living, and from the dead in time."""
        if self._leases.lives(holder.entry):
            self.violated(job.ref, f"was taken from {holder.process.name}, which lives")
        died_s = self._died_s.get(holder.process)
        if died_s is not None:
            waited_s = self._loop.now_s - max(died_s, holder.taken_s)
            if waited_s > RECLAIM_S:
                self.violated(
                    job.ref, f"stayed {waited_s:.1f} s with {holder.process.name}, which was dead"
                )

    def _check_rules(self, process: Process, story: JobStory) -> None:
        """It may be handed out now, and to this worker."""
        if self.pauses.stops(story.ref.queue, story.function):
            self.violated(story.ref, "was handed out although it is paused")
        for other in self.keys.beside(story, self.stories):
            self.violated(story.ref, f"was handed out while {other.ref} holds its key")
        if story.gate is not None:
            self._check_permits(story)
        for wrong in self.fronts.in_the_way(story, self.stories):
            self.violated(story.ref, wrong)
        for other in self._turns.overtaken(story, self.stories.values()):
            if not self.pauses.stops(other.ref.queue, other.function):
                self.violated(story.ref, f"has overtaken {other.ref}")
        quiet_s = self.orders.quiet.get(process)
        if quiet_s is not None:
            now_s = self._loop.now_s
            since_s = max(quiet_s, self._trouble_s, self._last_trouble_s(process, now_s))
            if now_s - since_s > QUIET_S:
                self.violated(story.ref, f"was handed to {process.name}, which was to be quiet")

    def _check_permits(self, story: JobStory) -> None:
        holders = [other.holder for other in self.stories.values() if other.holder is not None]
        living = [taking for taking in holders if self._leases.lives(taking.entry)]
        for wrong in self.permits.taken(story, self.stories.values(), living):
            self.violated(story.ref, wrong)

    def _check_awake(self, job: TakenJob, story: JobStory, now_s: float) -> None:
        """While the world is calm, nobody sleeps beside a ready job."""
        ready_s = now_s - (self._loop.store_ms() - job.ready_ms) / 1000
        ready_s = max(ready_s, self.pauses.free_s(job.queue, story.function))
        ready_s = max(ready_s, self.permits.free_s(story))
        if story.gate is not None and len(story.gate.uses) > 1:
            # It may have waited for its rate.
            return
        if now_s - ready_s > IDLE_S and self._trouble_s < ready_s - CALM_S:
            for process, free_s in self._free_s.items():
                if process in self.orders.quiet:
                    continue
                if now_s - max(free_s, ready_s) > IDLE_S:
                    self.violated(
                        job.ref,
                        f"was ready for {now_s - ready_s:.1f} s beside {process.name}, "
                        "which had a free slot",
                    )

    def _cancelled(
        self, process: Process, refs: Sequence[JobRef], verdicts: Sequence[CancelVerdict]
    ) -> None:
        for ref, verdict in zip(refs, verdicts, strict=True):
            self.note(process, "cancels", ref.id, verdict.value)
            story = self.stories[ref]
            if verdict is CancelVerdict.REQUESTED and story.asked_s is None:
                story.asked_s = self._loop.now_s
            holder = story.holder
            if verdict is CancelVerdict.CANCELLED and holder and self._leases.lives(holder.entry):
                self.violated(ref, f"was removed while {holder.process.name} held it")

    # ── what must hold in the end ──────────────────────────────────────────────────────

    def _last_trouble_s(self, process: Process, until_s: float) -> float:
        return max((s for s in self._troubles.get(process, ()) if s <= until_s), default=0.0)

    def _check_prompt(self, ref: JobRef, taking: Taking) -> None:
        """A worker that nothing happens to starts what it was handed."""
        started_s = taking.started_s or self._loop.now_s
        trouble_s = self._last_trouble_s(taking.process, started_s)
        since_s = max(taking.taken_s, taking.heard_s, trouble_s)
        if started_s - since_s > PROMPT_S:
            self.violated(ref, f"waited {started_s - since_s:.1f} s in {taking.process.name}")

    def judge(self, records: Sequence[JobRecord | None]) -> None:
        """All is over: what became of each job, by the store's own word?"""
        for ref, wrong in self.fronts.judge(self.stories, states_of(self.stories, records)):
            self.violated(ref, wrong)
        for (ref, story), record in zip(self.stories.items(), records, strict=True):
            state = None if record is None else record.state
            if story.stands_for is not None:
                if record is not None:
                    self.violated(ref, f"was left to {story.stands_for}, and is {state}")
                continue
            if story.finals == 0:
                self.violated(ref, f"is lost: it has no outcome, the store says {state}")
                continue
            self._judge_end(story, state)
            if record is not None and record.outcome is not None:
                self._judge_outcome(story, record.state, Outcome.decode(record.outcome))
            for place, taking in enumerate(story.takings):
                follower = story.takings[place + 1] if place + 1 < len(story.takings) else None
                self._judge_taking(story, taking, follower)

    def _judge_end(self, story: JobStory, state: State | None) -> None:
        if state is story.expected:
            if story.asked_s is not None:
                self._judge_unstopped(story)
        elif state is not State.CANCELLED or not story.is_cancelled:
            self.violated(story.ref, f"ended {state}, expected was {story.expected}")

    def _judge_outcome(self, story: JobStory, state: State, outcome: Outcome) -> None:
        """What waiters read is the end of the last taking."""
        if outcome.state is not state:
            self.violated(story.ref, f"ended {state}, waiters are told {outcome.state}")
        if outcome.attempt not in (0, story.takings[-1].attempt):
            last = story.takings[-1].attempt
            self.violated(story.ref, f"waiters are told of attempt {outcome.attempt}, not {last}")
        if state is State.SUCCEEDED and outcome.value != story.ref.id:
            self.violated(story.ref, f"waiters are told of the value {outcome.value!r}")

    def _judge_unstopped(self, story: JobStory) -> None:
        """Asked to stop it ran to its end: so it must have been about to end by itself."""
        asked_s, last = story.asked_s or 0.0, story.takings[-1]
        ended_s = last.ended_s or self._loop.now_s
        trouble_s = self._last_trouble_s(last.process, ended_s)
        since_s = max(asked_s, last.taken_s, trouble_s)
        if ended_s - since_s > STOP_S:
            self.violated(story.ref, f"ran on for {ended_s - since_s:.1f} s after a cancel")

    def _judge_taking(self, story: JobStory, taking: Taking, follower: Taking | None) -> None:
        if follower is None or taking.started_s is None or not taking.lapsed:
            return
        # Its lease was lost: it has to stop when its worker learns of it.
        if taking.process.is_dead and taking.ended_s is None:
            return
        ended_s = taking.ended_s or self._loop.now_s
        since_s = max(follower.taken_s, self._last_trouble_s(taking.process, ended_s))
        if ended_s - since_s > PROMPT_S:
            self.violated(
                story.ref,
                f"ran on {taking.process.name} for {ended_s - since_s:.1f} s after "
                "its lease had gone to another worker",
            )
