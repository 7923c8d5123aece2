"""A child: waits for one attempt, runs its function, tells the worker how it ended, and ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final

from asyncjobs.errors import EncodeError, MemoryLimit, UsageError
from asyncjobs.jobs.context import JobContext, _current
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.seat import Desk
from asyncjobs.model.codec import check_json, to_json
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.refs import JobRef
from asyncjobs.options.carried import restore
from asyncjobs.policy.redaction import Mask, mask_of
from asyncjobs.worker.engine.error_text import describe
from asyncjobs.worker.engine.processes import here
from asyncjobs.worker.engine.processes.frames import Kind, Sender, read_frame, split_task
from asyncjobs.worker.engine.processes.log_records import send_log_to
from asyncjobs.worker.engine.processes.orders import Orders
from asyncjobs.worker.engine.processes.told import error_fields
from asyncjobs.worker.engine.processes.trace import enter_trace, flush_spans
from asyncjobs.worker.engine.unfinished import close_unfinished, unfinished

__all__ = ["live"]

STOPPED: Final = 128 + signal.SIGTERM
"""As a shell reports a program that SIGTERM has ended."""
REPORTS_S: Final = 0.05
"""Progress is sent no more often than that."""


def live(link: socket.socket, functions: Mapping[str, JobFunction[..., Any]]) -> None:
    """Wait for the attempt and run it. Returns when the process may end."""
    frame = read_frame(link)
    if frame is None or frame.kind is not Kind.TASK:
        return  # the worker needs it no more
    about, envelope = split_task(frame.body)
    sender = Sender(link)
    orders = Orders(link)
    if not here.LINUX:
        threading.Thread(target=_end_with_worker, args=(link,), daemon=True).start()
    send_log_to(sender, about["log_level"])
    enter_trace(about["trace"])
    _reseed()
    with contextlib.suppress(OSError):  # the worker is gone: nobody wants to know
        InChild(sender, orders, about, envelope).run(functions.get(about["name"]))
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    with contextlib.suppress(Exception):
        flush_spans()


class InChild:
    """One attempt. It is the `Current` of everything that runs in it."""

    def __init__(
        self, sender: Sender, orders: Orders, about: dict[str, Any], envelope: bytes
    ) -> None:
        self._sender = sender
        self._orders = orders
        self._about = about
        self._raw = envelope
        self._reports = Reports(partial(sender.send, Kind.PROGRESS))
        self.mask: Mask | None = None
        self.context = _new_context(about, Envelope.decode(envelope), self._reports.put, orders)

    def run(self, function: JobFunction[..., Any] | None) -> None:
        """Call the function, and tell the worker how that ended."""
        # Set in this context, so that tasks and threads of the job inherit it.
        _current.set(self)
        limit = self._about["max_memory"]
        is_limited = False
        try:
            if function is None:
                raise UsageError(
                    f"{self._about['name']} was registered after the worker had started its "
                    "processes; register it where its module is imported"
                )
            self.mask = mask_of(function.redaction, self._raw)
            is_limited = limit is not None and here.limit_memory(limit)
            value = self._call(function)
        except BaseException as error:
            # A stop that comes now would cut off what is told, and the attempt is over anyway.
            self._orders.are_over = True
            if is_limited:
                here.lift_memory()
            self._reports.close()
            self._sender.tell(Kind.ERROR, self._told(error, limit if is_limited else None))
        else:
            self._orders.are_over = True
            if is_limited:
                here.lift_memory()
            self._reports.close()
            self._tell_value(value, function.name)

    def _call(self, function: JobFunction[..., Any]) -> Any:
        envelope = Envelope.decode(self._raw)
        kwargs = envelope.kwargs
        if function.injected is not None:
            kwargs[function.injected] = self.context
        if function.carried:
            restore(function.carried, envelope.headers.labels.variables)
        # The steps before the call run here, so what they make of the arguments need not travel.
        if function.is_async:
            return asyncio.run(self._await(function, envelope.args, kwargs))
        with self._orders.heard_by(_raise_stop):
            if not function.plan:
                return function.function(*envelope.args, **kwargs)
            call = function.plan.call(function.function, envelope.args, kwargs, _called)
            return _driven(call, function.name)

    async def _await(
        self, function: JobFunction[..., Any], args: list[Any], kwargs: dict[str, Any]
    ) -> Any:
        task = asyncio.current_task()
        assert task is not None
        loop = asyncio.get_running_loop()

        def stop() -> None:
            loop.call_soon_threadsafe(task.cancel)

        with self._orders.heard_by(stop):
            if not function.plan:
                return await function.function(*args, **kwargs)
            return await function.plan.call(function.function, args, kwargs, _awaited)

    def _told(self, error: BaseException, limit: int | None) -> dict[str, Any]:
        if limit is not None and isinstance(error, MemoryError):
            # Its traceback says where the memory was wanted, so it comes along as the cause.
            reached = MemoryLimit(f"the attempt wanted more than max_memory={limit:,} B")
            reached.__cause__ = error
            return error_fields(reached, self.mask)
        return error_fields(error, self.mask)

    def _tell_value(self, value: Any, name: str) -> None:
        what = f"the result of {name}"
        if value is not None and (work := unfinished(value)) is not None:
            close_unfinished(value)
            self._sender.tell(Kind.UNFINISHED, {"work": work})
            return
        most = self._about["max_result"]
        try:
            if value is not None:
                check_json(value, what)
            body = to_json({"r": value})
            if len(body) <= most + 8:
                self._sender.send(Kind.VALUE, body)
                return
            problem = f"{what} takes {len(body)} B, more than max_result={most} B"
        except EncodeError as error:
            problem = describe(error, self.mask).message
        except OSError:
            raise
        except BaseException as error:
            told = describe(error, self.mask)
            problem = (
                f"{what} cannot be read: {told.kind}: {told.message}; "
                "return plain data (numbers, text, lists, dicts)"
            )
        self._sender.tell(Kind.UNKEPT, {"problem": problem})


def _new_context(
    about: Mapping[str, Any],
    envelope: Envelope,
    report: Callable[[JobContext, bytes], None],
    desk: Desk,
) -> JobContext:
    return JobContext(
        JobRef(about["queue"], about["id"]),
        about["name"],
        envelope.attempt,
        about["max_attempts"],
        envelope.enqueued_ms,
        envelope.scheduled_ms,
        about["deadline_ms"],
        about["crashes"],
        report,
        envelope.expires_ms,
        envelope.headers,
        desk,
    )


async def _called(function: Callable[[], Any]) -> Any:
    return function()


async def _awaited(function: Callable[[], Any]) -> Any:
    return await function()


def _driven(call: Coroutine[Any, Any, Any], name: str) -> Any:
    """What the call of a sync function returns. There is no event loop around it, so that it may
    block and start a loop of its own."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    call.close()
    raise UsageError(
        f"{name} is sync and has parameters that need an event loop to be made; make it async def"
    )


def _raise_stop() -> None:
    # It runs the `finally` blocks, and `except Exception` does not swallow it.
    raise SystemExit(STOPPED)


class Reports:
    """Progress on its way to the worker. Of reports that come fast, only the newest is sent."""

    def __init__(self, send: Callable[[bytes], None]) -> None:
        self._send = send
        self._lock = threading.Lock()
        self._waiting: bytes | None = None
        self._timer: threading.Timer | None = None
        self._sent_s = float("-inf")

    def put(self, context: JobContext, report: bytes) -> None:
        """A new report. Waits only for a worker that does not read."""
        with self._lock:
            # A tight loop may report a million times; the worker reads each frame on its loop.
            self._waiting = report
            if self._timer is not None:
                return
            left_s = self._sent_s + REPORTS_S - time.monotonic()
            if left_s > 0:
                self._timer = threading.Timer(left_s, self._send_later)
                self._timer.daemon = True
                self._timer.start()
                return
            self._flush()

    def close(self) -> None:
        """Send what waits."""
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            self._flush()

    def _send_later(self) -> None:
        with self._lock:
            self._timer = None
            # An error: the worker is gone.
            with contextlib.suppress(OSError):
                self._flush()

    def _flush(self) -> None:
        if self._waiting is not None:
            self._send(self._waiting)
            self._waiting = None
            self._sent_s = time.monotonic()


def _end_with_worker(link: socket.socket) -> None:
    """Where no signal says that the worker is gone: wait for the end of the line, in a thread."""
    while True:
        select.select([link], [], [])
        with contextlib.suppress(OSError):
            if not link.recv(1, socket.MSG_PEEK):
                os.killpg(0, signal.SIGKILL)
        time.sleep(1)  # a STOP stays there to be seen


def _reseed() -> None:
    # Python gives each forked process random numbers of its own. NumPy does not.
    numpy_random: Any = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
