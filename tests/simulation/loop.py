"""An event loop without I/O: virtual time, simulated processes, a seeded order.

What of asyncio holds here: a callback runs once, alone, in its own context; never inside
the call that schedules it; a timer never before its time; a cancelled handle never. What
does not: any ready handle may be next, whoever was there first. Product code must not
count on more than that.

Each handle belongs to the simulated process in whose context it was scheduled. A process
that is paused keeps its handles until it goes on; of one that has crashed no handle ever
runs again, so no `finally` block does.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from random import Random
from typing import Any, Final

__all__ = ["START_S", "Process", "SimLoop", "Stuck"]

START_S: Final = 1_000.0
"""The loop's time when a run begins."""
STEP_S: Final = 0.000_01
"""What one callback costs: so time passes, too, while somebody spins."""
EPOCH_NS: Final = 1_700_000_000_000_000_000

RUNNING, PAUSED, DEAD = range(3)


class Stuck(Exception):
    """Nothing can happen any more, or not within the limit."""


class Process:
    """A simulated process: a name for handles, a wall clock of its own, a fate."""

    __slots__ = (
        "drift",
        "fuse",
        "held",
        "name",
        "number",
        "offset_ns",
        "state",
        "steps",
        "was_told",
    )

    def __init__(self, name: str, number: int) -> None:
        self.name = name
        self.number = number
        self.state = RUNNING
        self.held: list[SimHandle] = []
        self.steps = 0
        self.fuse = -1
        """The number of the step before which `SimLoop.on_fuse` is called."""
        self.offset_ns = 0
        self.drift = 1.0
        self.was_told = False
        """Whether it was told to end; when it dies on its way, the store may know that."""

    @property
    def is_dead(self) -> bool:
        return self.state == DEAD

    @property
    def is_running(self) -> bool:
        return self.state == RUNNING


PROCESS: ContextVar[Process] = ContextVar("simulated_process")


class SimHandle(asyncio.TimerHandle):
    """What a handle is for asyncio, without its cost: nothing of it is ever printed."""

    __slots__ = ("process",)

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context,
        process: Process,
        when: float = 0.0,
    ) -> None:
        self._callback = callback
        self._args = args
        self._context = context
        self._cancelled = False
        self._when = when
        self.process = process

    def cancel(self) -> None:
        self._cancelled = True
        self._args = ()

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def __lt__(self, other: object) -> bool:
        raise AssertionError("the heap must never have to compare handles")

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> bool:
        return self is other


class SimTask(asyncio.Task[Any]):
    """A task whose hash is its number: sets of tasks have the same order in each replay."""

    def __init__(self, coro: Coroutine[Any, Any, Any], loop: SimLoop, **options: Any) -> None:
        # Before all else: asyncio puts it into a set at once.
        self.number = len(loop.tasks)
        context = options.get("context")
        self.process = loop.current if context is None else context.get(PROCESS, loop.outside)
        loop.tasks.append(self)
        super().__init__(coro, loop=loop, **options)

    def __hash__(self) -> int:
        return self.number


class SimLoop(asyncio.BaseEventLoop):
    """Owns time, the ready handles and all tasks of one run."""

    def __init__(self, random: Random) -> None:
        self._is_on = False
        super().__init__()
        self.random = random
        self.now_s = START_S
        self.stepped_ms = 0
        """How far the store's clock was set forward so far, in all."""
        self.outside = Process("world", 0)
        """Whoever is not part of what is tested; never paused, never dead."""
        self.current = self.outside
        self.steps = 0
        self.checksum = 0
        self.tasks: list[SimTask] = []
        self.complaints: list[str] = []
        self.on_fuse: Callable[[Process], None] = lambda process: None
        self._ready_handles: list[SimHandle] = []
        self._timers: list[tuple[float, int, SimHandle]] = []
        self._timer_count = 0
        self._outside_context = copy_context()
        self._outside_context.run(PROCESS.set, self.outside)

    # ── what asyncio asks of a loop ─────────────────────────────────────────────────

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return self._is_on

    def call_soon(  # type: ignore[override]  # typeshed binds the arguments to the callback
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> SimHandle:
        if context is None:
            handle = SimHandle(callback, args, copy_context(), self.current)
        else:
            handle = SimHandle(callback, args, context, context.get(PROCESS, self.outside))
        self._ready_handles.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]  # there is one thread

    def call_later(  # type: ignore[override]  # as call_soon
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> SimHandle:
        return self.call_at(self.now_s + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]  # as call_soon
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> SimHandle:
        if context is None:
            context = copy_context()
        return self._add_timer(SimHandle(callback, args, context, self.current, when))

    def create_task(  # type: ignore[override]  # one kind of task, whatever is awaited
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> SimTask:
        return SimTask(coro, self, name=name, context=context)

    def start_eagerly(self, coro: Coroutine[Any, Any, Any]) -> SimTask:
        """As `asyncio.Task(eager_start=True)`, from Python 3.12 on."""
        return SimTask(coro, self, eager_start=True)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.complaints.append(f"{context.get('message')}: {error!r}")

    # ── the outside ────────────────────────────────────────────────────────────────────

    def at(self, when: float, callback: Callable[..., Any], *args: Any) -> None:
        """Call from outside of all processes: the network, the store, fate."""
        self._add_timer(SimHandle(callback, args, self._outside_context, self.outside, when))

    def after(self, delay: float, callback: Callable[..., Any], *args: Any) -> None:
        """As `at`, so many seconds from now."""
        self.at(self.now_s + delay, callback, *args)

    def spawn(self, process: Process, body: Coroutine[Any, Any, Any]) -> SimTask:
        """A task that belongs to `process`, and everything that it starts with it."""
        context = Context()
        context.run(PROCESS.set, process)
        return self.create_task(body, name=process.name, context=context)

    def wall_ns(self) -> int:
        """The wall clock of the process whose handle runs."""
        process = self.current
        passed_ns = (self.now_s - START_S) * 1e9
        return EPOCH_NS + process.offset_ns + int(passed_ns * process.drift)

    def steady_ms(self) -> int:
        """What the store's clock would show if nobody had ever set it."""
        return EPOCH_NS // 1_000_000 + int((self.now_s - START_S) * 1000)

    def store_ms(self) -> int:
        """The store's clock, in ms since the epoch."""
        return self.steady_ms() + self.stepped_ms

    def pause(self, process: Process) -> None:
        if process.state == RUNNING:
            process.state = PAUSED

    def go_on(self, process: Process) -> None:
        if process.state == PAUSED:
            process.state = RUNNING
            self._ready_handles += process.held
            process.held = []

    def kill(self, process: Process) -> None:
        process.state = DEAD
        process.held = []

    # ── running ────────────────────────────────────────────────────────────────────────

    def _add_timer(self, handle: SimHandle) -> SimHandle:
        self._timer_count += 1
        heappush(self._timers, (handle._when, self._timer_count, handle))
        return handle

    def run_until(self, main: asyncio.Future[Any], limit_s: float) -> None:
        """Run handles until `main` is done. Raises Stuck."""
        ready, timers, chance = self._ready_handles, self._timers, self.random.random
        end_s = self.now_s + limit_s
        self._is_on = True
        asyncio._set_running_loop(self)
        try:
            while not main.done():
                if not ready:
                    self._jump(end_s)
                while timers and timers[0][0] <= self.now_s:
                    ready.append(heappop(timers)[2])
                place = int(chance() * len(ready))
                handle = ready[place]
                last = ready.pop()
                if last is not handle:
                    ready[place] = last
                if not handle._cancelled:
                    self._run(handle)
        finally:
            self._is_on = False
            asyncio._set_running_loop(None)

    def _jump(self, end_s: float) -> None:
        """Nothing is ready: go to the next timer that anybody waits for."""
        timers = self._timers
        while timers and (timers[0][2]._cancelled or timers[0][2].process.state == DEAD):
            heappop(timers)
        if not timers:
            raise Stuck("nothing is scheduled any more")
        if timers[0][0] > end_s:
            raise Stuck("the time is over")
        if timers[0][0] > self.now_s:
            self.now_s = timers[0][0]

    def _run(self, handle: SimHandle) -> None:
        process = handle.process
        if process.state:
            if process.state == PAUSED:
                process.held.append(handle)
            return
        process.steps += 1
        if process.steps == process.fuse:
            self.on_fuse(process)
            if process.state:
                self._run(handle)
                return
        self.steps += 1
        self.now_s += STEP_S
        self.checksum = (self.checksum * 31 + process.number) & 0xFFFFFFFFFFFF
        self.current = process
        try:
            handle._context.run(handle._callback, *handle._args)
        except Exception as error:
            self.call_exception_handler({"message": "a callback raised", "exception": error})
        self.current = self.outside

    # ── the end ────────────────────────────────────────────────────────────────────────

    def leftovers(self) -> list[str]:
        """Tasks of processes that have not crashed and are not done, and errors of tasks
        that nobody has looked at."""
        found = list(self.complaints)
        for task in self.tasks:
            if task.process.is_dead:
                continue  # whoever would have asked has died as well
            if not task.done():
                found.append(f"left behind: {task.get_name()}")
            elif not task.cancelled() and task._log_traceback:
                found.append(f"nobody asked how {task.get_name()} ended: {task.exception()!r}")
        return found

    def bury(self) -> None:
        """Take apart what crashed processes have left, quietly, after the run."""
        asyncio._set_running_loop(self)
        try:
            with warnings.catch_warnings():
                # Coroutines whose process has died before their first step.
                warnings.simplefilter("ignore", RuntimeWarning)
                for task in self.tasks:
                    if not task.done():
                        # No name for either in typeshed: asyncio keeps them to itself.
                        task._log_destroy_pending = False  # type: ignore[attr-defined]
                        _unwind(task.get_coro())  # type: ignore[arg-type]
                    task._log_traceback = False
                self.tasks.clear()
                self._ready_handles.clear()
                self._timers.clear()
        finally:
            asyncio._set_running_loop(None)
        self.close()


class Unwound(BaseException):
    """Thrown into what is left of a crashed process."""


def _unwind(coroutine: Coroutine[Any, Any, Any]) -> None:
    for _ in range(1000):
        try:
            coroutine.throw(Unwound())
        except BaseException:
            return
