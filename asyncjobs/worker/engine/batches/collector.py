"""Sorts the attempts of one batch consumer into lots."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, NamedTuple

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.jobs.calling import CallPlan
from asyncjobs.jobs.conversions import conversions
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.model.codec import to_json
from asyncjobs.options.batch import Batch
from asyncjobs.worker.engine.attempt import Attempt, Reason
from asyncjobs.worker.engine.batches.lot import Lot, Served
from asyncjobs.worker.engine.executors import Executor
from asyncjobs.worker.engine.running import Running

__all__ = ["Batches", "Collector"]


logger = GuardedLog("asyncjobs.worker")


class Key(NamedTuple):
    """What the attempts of one lot have in common. All of them have the same time-out and queue,
    so that what stops one of them stops all; `by`: as JSON, what `Batch.by` makes of the item."""

    queue: str
    timeout_s: float | None
    crashes: int
    variables: bytes
    by: bytes


class Batches:
    """The collectors of one worker.

    `concurrency`: the slots of the worker. Each job of a batch holds one.
    """

    def __init__(self, concurrency: int, running: Running, middlewares: Middlewares) -> None:
        self.concurrency: Final = concurrency
        self.running = running
        self.middlewares = middlewares
        self._collectors: dict[str, Collector] = {}
        self.is_burst = False
        """Whether the worker ends by itself: it may be that of a test, with one slot."""
        self._is_ending = False

    def around(self, function: JobFunction[..., Any], rule: Batch, executor: Executor) -> Collector:
        """The executor of a batch consumer. It outlives a change of middleware."""
        found = self._collectors.get(function.name)
        if found is None:
            found = self._collectors[function.name] = Collector(self, function, rule, executor)
            if self._is_ending:
                found.end()
        return found

    def flush(self) -> None:
        """No more jobs come for now: do not wait for them."""
        for collector in self._collectors.values():
            collector.flush()

    def end(self) -> None:
        """The worker takes no more jobs and will end: give back those whose batch has not begun."""
        self._is_ending = True
        for collector in self._collectors.values():
            collector.end()


class Collector:
    """The executor of one batch consumer. Owns its lots.

    `max_running` of the function bounds its calls that run at a time, and not its jobs.
    """

    def __init__(
        self, batches: Batches, function: JobFunction[..., Any], rule: Batch, executor: Executor
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._batches = batches
        self._rule = rule
        self._window_s = rule.window_s
        self._most_bytes = rule.most_bytes
        # rule:38 a batch is never larger than the worker has slots
        self._size = min(rule.size, batches.concurrency)
        if self._size < rule.size and not batches.is_burst:
            logger.warning(
                "%s: its batches of %d jobs are made of %d, for this worker has so many slots; "
                "give it concurrency=%d or more, or the function Batch(size=%d)",
                function.name,
                rule.size,
                self._size,
                rule.size,
                self._size,
            )
        self._function = function
        self._open: dict[Key, Lot] = {}
        """The lots that take more attempts."""
        self._lots: dict[Attempt, Lot] = {}
        """Where each attempt is that has come here and has not left."""
        self._is_ending = False
        turns: asyncio.Semaphore | None = None
        if function.max_running is not None:
            turns = asyncio.Semaphore(function.max_running)
        call_plan = CallPlan()
        if (wiring := function.wiring) is not None:
            call_plan = CallPlan([wiring.make])
        self.item_plan: Final = conversions(function.binding)
        """What each attempt passes by itself before the call."""
        self._served = Served(
            function, executor, call_plan, turns, batches.running, batches.middlewares
        )

    @property
    def attempts(self) -> int:
        """How many attempts are here. See `Bounds`."""
        return len(self._lots)

    # -- as an executor ---------------------------------------------------------------------

    async def acquire(self, attempt: Attempt) -> None:
        """Wait until the batch of this attempt begins."""
        # rule:38 a worker that ends begins no batch
        if self._is_ending:
            attempt.stop(Reason.SHUTDOWN)
            raise asyncio.CancelledError
        lot = self._lot_for(attempt)
        self._lots[attempt] = lot
        try:
            # Added before it closes: the last one belongs to the call that it starts.
            begun = lot.add(attempt)
            if lot.is_full(self._size_for(attempt.job.crashes)):
                self._close(lot)
            await begun
        except BaseException:
            self.release(attempt)
            raise

    def release(self, attempt: Attempt) -> None:
        """The attempt is over, or will never begin."""
        lot = self._lots.pop(attempt)
        lot.leave(attempt)
        if lot.is_empty and self._open.get(lot.key) is lot:
            lot.stop_waiting()
            del self._open[lot.key]

    def call(self, attempt: Attempt, function: Callable[[], Any]) -> Coroutine[Any, Any, Any]:
        return self._lots[attempt].serve(attempt, function())

    # -- lots -------------------------------------------------------------------------------

    def _lot_for(self, attempt: Attempt) -> Lot:
        """The open lot for this attempt. Raises what the user's function `by` raises."""
        key = self._key(attempt)
        size = len(attempt.job.envelope)
        lot = self._open.get(key)
        most = self._most_bytes
        # rule:38 a batch has no more bytes than it may
        if lot is not None and most is not None and lot.bytes + size > most:
            self._close(lot)
            lot = None
        if lot is None:
            lot = self._open[key] = Lot(key, self._served)
            lot.timer = self._loop.call_later(self._window_s, self._close, lot)
        return lot

    def _size_for(self, crashes: int) -> int:
        """The size of a batch of suspects.

        Each death halves it at least, until the one that kills its worker stands alone. How many
        suspects there are at a time is the store's business; see policy/suspects.py.
        """
        # rule:38 each death halves the batches of suspects
        return max(self._size >> crashes, 1)

    def _close(self, lot: Lot) -> None:
        """Nobody joins this lot any more: call the function."""
        if self._open.get(lot.key) is lot:
            del self._open[lot.key]
        lot.begin(self._loop)

    def flush(self) -> None:
        for lot in list(self._open.values()):
            self._close(lot)

    def end(self) -> None:
        """Give back the attempts whose batch has not begun."""
        self._is_ending = True
        for attempt, lot in list(self._lots.items()):
            # rule:38 a stop waits for no window
            if not lot.has_begun:
                attempt.stop(Reason.SHUTDOWN)

    # -- keys -------------------------------------------------------------------------------

    def _key(self, attempt: Attempt) -> Key:
        # The context variables of the enqueue hold in the call, so they are the same for all.
        variables = b""
        if self._function.carried:
            variables = to_json(attempt.envelope.headers.labels.variables)
        return Key(
            attempt.job.queue,
            attempt.settings.timeout_s,
            attempt.job.crashes,
            variables,
            self._by(attempt),
        )

    def _by(self, attempt: Attempt) -> bytes:
        by = self._rule.by
        args = attempt.envelope.args
        if by is None or not args:
            return b""
        if isinstance(by, str):
            item = args[0]
            # An item without such a key has none. Whether it fits is found out by its conversion.
            return to_json(item.get(by)) if isinstance(item, Mapping) else b""
        # Converted here and again in the attempt: rows of `Ref` are loaded there, once.
        (item,), _ = self._function.binding.loaded(args[:1], {})
        return to_json(by(item))
