"""One seed from its start to its end: what it is made of, what happens, the verdict."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any, Final, Self

from asyncjobs.errors import StoreError
from asyncjobs.events import Events
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.model.figures import MINUTE_MS
from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.refs import JobRef
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import Backend, Clock, StoreSettings
from asyncjobs.worker.worker import Worker
from tests.simulation.clock_steps import ClockSteps
from tests.simulation.fronts import states_of
from tests.simulation.graphs import draw_graphs, make_all
from tests.simulation.ledger import Ledger
from tests.simulation.load import APP, enqueue_and_cancel, set_ledger, stock_up
from tests.simulation.loop import START_S, Process, SimLoop, SimTask, Stuck
from tests.simulation.operating import Operator
from tests.simulation.patching import in_simulation
from tests.simulation.wire import Fate, Network, Wire

__all__ = ["Report", "run_seed"]

LIMIT_S: Final = 120.0
"""Virtual seconds after which a job that has not ended counts as lost."""
FEW_STEPS: Final = 300
LATE_S: Final = 5.0
"""No call arrives later than this after it was sent."""
FAR_MS: Final = 10_000
"""A time further ahead than this was set while the clock was ahead: no job has such a delay."""


@dataclass(slots=True)
class Report:
    """What one seed came to."""

    seed: int
    wrong: list[str]
    trace: list[tuple[Any, ...]]
    steps: int
    checksum: int
    life_s: float
    numbers: dict[str, int] = field(default_factory=dict)

    @property
    def hash(self) -> str:
        """Equal for two runs in which the same things happened in the same order."""
        text = repr((self.seed, self.wrong, self.trace, self.steps, self.checksum))
        return hashlib.sha256(text.encode()).hexdigest()


class Store(MemoryBackend):
    """The store in memory, which tells the ledger when it records an outcome."""

    ledger: Ledger

    def __init__(self, settings: StoreSettings, *, now_ms: Clock | None = None) -> None:
        super().__init__(settings, now_ms=now_ms)
        tell = self._queues.tell_finished

        def tell_both(ref: JobRef) -> None:
            self.ledger.finished(ref)
            tell(ref)

        self._queues.tell_finished = tell_both  # type: ignore[method-assign]


class Host:
    """What a worker needs of an app, on the wire of one process."""

    def __init__(self, wire: Wire) -> None:
        self.settings = APP.settings
        self.registry = APP.registry
        self.events = Events()
        self.middlewares = Middlewares()
        self.backend: Backend = wire

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class World:
    """Owns the processes of one run, and their misfortunes."""

    def __init__(self, seed: int, store_kind: type[Store] = Store) -> None:
        self.seed = seed
        self.chance = Random(seed)
        self.loop = SimLoop(self.chance)
        self.ledger = Ledger(self.loop)
        # No step is as long, and forgets that a batch was answered.
        settings = replace(APP.settings.store(), token_ttl_ms=86_400_000, history=10_000)
        self.store = store_kind(settings, now_ms=self.loop.store_ms)
        self.store.ledger = self.ledger
        self.clock_steps = ClockSteps(seed, self.loop, self.ledger)
        chance = self.chance.random
        trouble = (0.01, 0.03, 0.08, 0.15)[int(chance() * 4)]
        self.network = Network(self.loop, self.store, self.ledger, trouble)
        self.network.forced = [
            (45 + int(chance() * 40), Fate.NO_REPLY),
            (50 + int(chance() * 50), Fate.DOUBLE),
        ]
        self.queues = ("default",) if chance() < 0.5 else ("default", "mail")
        self.graphs = draw_graphs(Random(f"flows of {seed}"))
        of_flows = [node.order.job.queue for graph in self.graphs for node in graph.nodes]
        homes = [graph.ref.queue for graph in self.graphs]
        self.served = tuple(dict.fromkeys([*self.queues, *homes, *of_flows]))
        self.lease_s = (1.0, 1.5, 2.0)[int(chance() * 3)]
        self.concurrency = 1 + int(chance() * 4)
        self.ledger.concurrency = self.concurrency
        self.workers: dict[Process, Worker] = {}
        self._ends = Random(f"ends of {seed}")
        """Of its own, so that what came before a seed had workers like these stays as it was."""
        self._armed: dict[Process, Callable[[Process], None]] = {}
        self.crashes = self.pauses = self.started = 0
        self.ending = False
        self.operating: SimTask | None = None

    # ── processes ──────────────────────────────────────────────────────────────────────

    def _new_process(self, name: str) -> Process:
        self.started += 1
        process = Process(f"{name}{self.started}", self.started)
        process.offset_ns = int((self.chance.random() - 0.5) * 120e9)
        process.drift = 1 + (self.chance.random() - 0.5) * 0.1
        return process

    def start_worker(self) -> None:
        """A new worker process."""
        if not self.ending:
            process = self._new_process("worker")
            _ = self.loop.spawn(process, self._work(process))

    async def _work(self, process: Process) -> None:
        wire = Wire(self.loop, self.network, process)
        while not self.ending:
            worker = Worker(
                Host(wire),
                queues=self.served,
                concurrency=self.concurrency,
                lease=self.lease_s,
                grace=1.5 * self.chance.random(),
                name=process.name,
                # The watchdog is a thread, by the real clock: it has no place here.
                block_warning=None,
                hard_limit=None,
            )
            self.workers[process] = worker
            own_end = self._own_end()
            if own_end:
                self.ledger.may_rest(process)
            try:
                await worker.run(**own_end)
                break
            except StoreError:
                await asyncio.sleep(0.2)
        self.workers.pop(process, None)
        if not self.ending:
            self.loop.after(0.1, self.start_worker)

    def _own_end(self) -> dict[str, Any]:
        """Some workers end by themselves, after a few jobs or with nothing left to do."""
        chance = self._ends.random()
        if chance < 0.2:
            return {"max_jobs": 1 + int(self._ends.random() * 12)}
        if chance < 0.3:
            return {"burst": True, "burst_wait": self._ends.random()}
        return {}

    def crash(self, process: Process) -> None:
        """From here on nothing of this process happens any more."""
        self.crashes += 1
        self.workers.pop(process, None)
        self.ledger.dies(process)
        self.loop.kill(process)
        if self.chance.random() < 0.7:
            self.network.hang_up_all(process)
        self.loop.after(1.5 * self.chance.random(), self.start_worker)

    def _some_worker(self) -> Process | None:
        alive = [process for process in self.workers if process.is_running]
        return alive[int(self.chance.random() * len(alive))] if alive else None

    # ── misfortunes ────────────────────────────────────────────────────────────────────

    def arm(self, misfortune: Callable[[Process], None]) -> None:
        """It befalls some worker between two of its next steps."""
        process = self._some_worker()
        if process is None or process in self._armed:
            self.loop.after(0.1, self.arm, misfortune)
            return
        self._armed[process] = misfortune
        process.fuse = process.steps + 1 + int(self.chance.random() * FEW_STEPS)
        # An idle worker makes few steps, and would wait for it for long.
        self.loop.after(self.chance.random(), self._strike, process)

    def _strike(self, process: Process) -> None:
        misfortune = self._armed.pop(process, None)
        process.fuse = -1
        if misfortune is not None and not process.is_dead and not self.ending:
            misfortune(process)

    def pause(self, process: Process) -> None:
        """Stop it (SIGSTOP), for up to several leases."""
        self.pauses += 1
        self.loop.pause(process)
        self.ledger.trouble(process, "", "pauses")
        self.loop.after(3 * self.lease_s * self.chance.random(), self._go_on, process)

    def _go_on(self, process: Process) -> None:
        if not process.is_dead and not process.is_running:
            self.ledger.trouble(process, "", "goes on")
            self.loop.go_on(process)

    def go_away(self) -> None:
        """The store cannot be reached for a while; it keeps what it has."""
        if not self.ending:
            self.network.away = True
            self.ledger.trouble(self.loop.outside, "", "store away")
            self.network.disconnect()
            self.loop.after(2 * self.lease_s * self.chance.random(), self._come_back)

    def _come_back(self) -> None:
        self.network.away = False
        self.ledger.note(self.loop.outside, "store back")

    def roll(self) -> None:
        """One worker is told to stop, and replaced when it has ended."""
        process = self._some_worker()
        if process is not None and not self.ending:
            self.ledger.note(process, "is told to stop")
            self.ledger.leaves(process)
            process.was_told = True
            self.workers[process].stop()

    # ── the run ────────────────────────────────────────────────────────────────────────

    def _plan(self) -> None:
        loop, chance = self.loop, self.chance.random
        for _ in range(3):
            loop.after(0.2 * chance(), self.start_worker)
        for _ in range(1 + int(2 * chance())):
            loop.after(0.2 + 2 * chance(), self.arm, self.crash)
        for _ in range(int(2.5 * chance())):
            loop.after(0.2 + 3 * chance(), self.arm, self.pause)
        if chance() < 0.3:
            loop.after(0.3 + 3 * chance(), self.go_away)
        if chance() < 0.5:
            loop.after(0.5 + 3 * chance(), self.roll)
        self.loop.on_fuse = self._strike
        self.clock_steps.plan()

    async def _main(self) -> None:
        client = self._new_process("client")
        keys, gates = Random(f"keys of {self.seed}"), Random(f"gates of {self.seed}")
        orders = stock_up(self.chance, keys, gates, self.queues)
        wire = Wire(self.loop, self.network, client)
        enqueuing = self.loop.spawn(client, enqueue_and_cancel(wire, self.ledger, orders))
        making = self.loop.spawn(client, make_all(wire, self.ledger, self.graphs))
        self._hire(wire)
        await enqueuing
        await making
        while True:
            while self.ledger.unfinished or not self.crashes:
                await asyncio.sleep(0.1)
                self._put_the_clock_right()
            if not self.ledger.keys.merged:
                break
            # A copy of a call that comes late may yet store a job that was left out for its key.
            self.ledger.keys.merged = 0
            await asyncio.sleep(LATE_S)
        await self._end()

    def _hire(self, wire: Wire) -> None:
        """An operator, in some of the runs. His machine is a good one: it never crashes."""
        operator = Operator(self.seed, wire, self.ledger, self.served)
        if operator.is_on_duty:
            self.operating = self.loop.spawn(self.loop.outside, operator.work())

    def _put_the_clock_right(self) -> None:
        """Jobs that were stored with a delay while the store's clock was ahead come later by
        that step. When there are no others, the clock is set to their time, once more."""
        queues = self.store._queues.by_name.values()
        held = sum(queue.locks.held + queue.barriers.held for queue in queues)
        waiting = sum(queue.waiting.scheduled for queue in queues)
        if sum(queue.living for queue in queues) == waiting + held:
            now_ms = self.loop.store_ms()
            dues = [due for queue in queues if (due := queue.waiting.next_due_ms) is not None]
            if dues and min(dues) > now_ms + FAR_MS:
                self.clock_steps.set_by(min(dues) - now_ms)

    async def _end(self) -> None:
        """Nothing befalls anybody any more; the workers go home."""
        self.ending = self.clock_steps.is_over = True
        self.network.trouble, self.network.forced = 0.0, []
        if self.operating is not None:
            self.operating.cancel()
        if self.network.away:
            self._come_back()
        for process, worker in list(self.workers.items()):
            self._go_on(process)
            process.fuse = -1
            process.was_told = True
            worker.stop()
        while self.workers:
            await asyncio.sleep(0.2)
        # What came late arrives, and leases of the dead end.
        await asyncio.sleep(5 + self.lease_s)

    async def _look(self) -> list[JobRecord | None]:
        return await self.store.get(list(self.ledger.stories))

    async def _clean_up(self) -> None:
        """What any worker that came now would do: reclaim, then prune."""
        # Connections of dead machines that nobody has closed.
        self.network.disconnect()
        grace_ms = round(self.lease_s * 1000) // 3
        for _ in range(10):
            # After the silence the first ones wait for workers that might renew. After a step
            # back that nobody has heard of, leases of the dead have their whole length.
            await self.store.reclaim(self.served, grace_ms, 1000)
            await asyncio.sleep(grace_ms / 2000)
        await self.store.prune(self.served, 1000)

    def run(self) -> None:
        """Live it through; what is wrong stands in the ledger."""
        set_ledger(self.ledger)
        self._plan()
        try:
            self.loop.run_until(self.loop.spawn(self.loop.outside, self._main()), LIMIT_S)
            self.loop.run_until(self.loop.spawn(self.loop.outside, self._clean_up()), LIMIT_S)
        except Stuck as stuck:
            self.ledger.violated(None, f"it does not come to an end: {stuck}")
        looking = self.loop.spawn(self.loop.outside, self._look())
        self.loop.run_until(looking, LIMIT_S)
        self.ledger.judge(looking.result())
        if not self.ledger.wrong:
            self._look_around(looking.result())

    def _look_around(self, records: list[JobRecord | None]) -> None:
        """What is left in the store and on the loop."""
        dead = Counter(r.ref.queue for r in records if r is not None and r.state is State.DEAD)
        for text in self.loop.leftovers():
            self.ledger.violated(None, text)
        for name, queue in self.store._queues.by_name.items():
            leases = [held for _, held in queue.leases.items()]
            leaving = queue.leases.leaving
            left = {
                "jobs": queue.living,
                "ready": sum(queue.waiting.ready),
                "scheduled": queue.waiting.scheduled,
                "leases": len(leases),
                "leaving": len(leaving),
                "cancel marks": sum(len(held.marked) for held in [*leases, *leaving]),
                "dead letters too many": queue.ended.dead - dead[name],
                "unique keys": len(queue.locks.listed()),
                "barriers": queue.barriers.standing,
                "jobs behind barriers": queue.barriers.held,
                "arrivals": len(queue.barriers._arrivals),
                "nodes": len(queue.barriers._nodes),
            }
            for what, count in left.items():
                if count:
                    self.ledger.violated(None, f"left in queue {name}: {count} {what}")
        self._look_at_flows(records)
        self._look_at_history(records)
        parked = len(self.store._queues.wakes)
        if parked or len(self.store._queues.results):
            self.ledger.violated(None, f"somebody still waits in the store: {parked}")

    def _look_at_flows(self, records: list[JobRecord | None]) -> None:
        """The record of each flow says how its jobs have ended."""
        states = states_of(self.ledger.stories, records)
        for flow in self.ledger.fronts.flows:
            found = self.store._queues.queue(flow.queue).barriers.flows.get(flow.id)
            record = None if found is None else found.record
            for ref, wrong in self.ledger.fronts.judge_flow(flow, record, states):
                self.ledger.violated(ref, wrong)

    def _look_at_history(self, records: list[JobRecord | None]) -> None:
        """Each job that has ended is listed once, with its end."""
        ends = {record.ref: record.state for record in records if record is not None}
        listed = [
            job for queue in self.store._queues.by_name.values() for job in queue.finished.jobs
        ]
        times = Counter(job.ref for job in listed)
        for job in listed:
            if times[job.ref] > 1 or ends.get(job.ref) is not job.state:
                self.ledger.violated(job.ref, f"is listed {times[job.ref]} times, as {job.state}")
        for ref, state in ends.items():
            if state.is_final and ref not in times:
                self.ledger.violated(ref, f"has ended {state}, and is not in the history")
        counted = sum(
            figures.attempts
            for queue in self.store._queues.by_name.values()
            for figures in queue.finished.figures.of(MINUTE_MS, range(10**12))
        )
        ran = sum(len(story.takings) for story in self.ledger.stories.values())
        if counted > ran:
            self.ledger.violated(None, f"{counted} attempts were counted, of {ran}")


def run_seed(seed: int, store_kind: type[Store] = Store) -> Report:
    """Run one seed; what is wrong stands in the report, empty when all is well."""
    world = World(seed, store_kind)
    with in_simulation(world.loop, world.ledger.decided):
        try:
            world.run()
            return _report(seed, world)
        finally:
            world.loop.bury()


def _report(seed: int, world: World) -> Report:
    """Before the burial: jobs of crashed workers write into the ledger while they go."""
    ledger, network = world.ledger, world.network
    takings = sum(len(story.takings) for story in ledger.stories.values())
    numbers = {
        "jobs": len(ledger.stories),
        "workers": world.started - 1,
        "takings": takings,
        "crashes": world.crashes,
        "pauses": world.pauses,
        "clock steps": world.clock_steps.count,
        "paused": ledger.pauses.count,
        "ordered": ledger.orders.count,
        "left out": sum(story.stands_for is not None for story in ledger.stories.values()),
        "nodes": sum(len(graph.nodes) for graph in world.graphs),
        **{f"front says {end}": count for end, count in ledger.fronts.ends.items()},
        **{fate.value: count for fate, count in network.counts.items() if count},
    }
    loop = world.loop
    trace = list(ledger.trace)
    return Report(
        seed, ledger.wrong, trace, loop.steps, loop.checksum, loop.now_s - START_S, numbers
    )
