"""The fork server: imports the modules of the job functions, then forks a child for each attempt.

It is a fresh interpreter and has one thread, so a fork copies no lock that another thread holds.
Its children share the memory of what it has imported. It starts children, signals them, and says
how each has ended. It does so for one worker and ends with it.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, Final, NoReturn

from asyncjobs.jobs.function import JobFunction
from asyncjobs.worker.engine.processes import here
from asyncjobs.worker.engine.processes.child import live
from asyncjobs.worker.engine.processes.origin import find_functions, read_origin

__all__ = ["main"]

LOOK_S: Final = 5.0
"""How often to check whether the worker is gone, should its end of the line be held open by a
process that it has forked."""
MOST_BYTES: Final = 16 << 20
EXIT_BROKEN: Final = 70


def main(control: int) -> NoReturn:
    """The program of the fork server. `control`: the line to the worker, as a file descriptor."""
    here.is_for_attempts = True
    # Ctrl-C reaches all processes of a terminal, and a service manager may signal all of a
    # service. The worker alone decides what such a signal means for attempts.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    here.die_with_parent(signal.SIGTERM, parent)
    line = socket.socket(fileno=control)
    lines = Lines(line)
    first = lines.wait()
    if first is None:
        os._exit(0)
    server = ForkServer(lines, parent)
    functions = server.begin(first)
    if functions is None:
        os._exit(1)
    server.serve(functions)
    os._exit(0)


class Lines:
    """Lines of JSON from and to the worker, and the sockets that come with them."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line
        self.sockets: list[int] = []
        self._read = b""
        self._found: list[dict[str, Any]] = []

    def wait(self) -> dict[str, Any] | None:
        """The next line; None at the end. Blocks."""
        while not self._found:
            if not self.read():
                return None
        return self._found.pop(0)

    def read(self) -> bool:
        """Read what is there. False at the end."""
        data, sockets, _, _ = socket.recv_fds(self.line, 1 << 16, 64)
        self.sockets += sockets
        if not data or len(self._read) > MOST_BYTES:
            return False
        *whole, self._read = (self._read + data).split(b"\n")
        self._found += [json.loads(each) for each in whole]
        return True

    def take(self) -> list[dict[str, Any]]:
        """The lines that have come."""
        found, self._found = self._found, []
        return found

    def say(self, **fields: Any) -> None:
        """Tell the worker. Blocks while it is busy."""
        self.line.sendall(json.dumps(fields).encode() + b"\n")


class ForkServer:
    """Owns the children: each is killed with all that it has started, at the latest here."""

    def __init__(self, lines: Lines, parent: int) -> None:
        self._lines = lines
        self._parent = parent
        self._children: dict[int, int] = {}
        """The number of each child, by its process id."""

    def begin(self, first: dict[str, Any]) -> dict[str, JobFunction[..., Any]] | None:
        """Import what the first line names, and say that all is ready."""
        sys.argv[:] = first["argv"]
        try:
            origin = read_origin(first["functions"], first["app"])
            functions, missing = find_functions(origin)
        except BaseException as error:
            told = "".join(traceback.format_exception_only(type(error), error)).strip()
            self._lines.say(failed=told, trace="".join(traceback.format_exception(error)))
            return None
        self._lines.say(ready=missing, threads=[each.name for each in _other_threads()])
        # What was imported stays. Otherwise the collector of each child would copy all its pages.
        gc.collect()
        gc.freeze()
        return functions

    def serve(self, functions: dict[str, JobFunction[..., Any]]) -> None:
        """Do what the worker asks for, until it is gone."""
        woken, wake = socket.socketpair()
        for each in (woken, wake):
            each.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGTERM):
            # The handler need not do anything: the wake-up does.
            signal.signal(number, lambda number, frame: None)
        to_close = [self._lines.line, woken, wake]
        try:
            while os.getppid() == self._parent:
                for order in self._lines.take():
                    self._follow(order, functions, to_close)
                self._bury_the_dead()
                ready, _, _ = select.select([self._lines.line, woken], [], [], LOOK_S)
                if woken in ready:
                    with contextlib.suppress(BlockingIOError):
                        woken.recv(4096)
                if self._lines.line in ready and not self._lines.read():
                    return
        except OSError:
            return  # the worker is gone while it was told something
        finally:
            # rule:27 children end with their worker
            for pid in self._children:
                _signal_group(pid, signal.SIGKILL)
            for each in to_close:
                each.close()

    def _follow(
        self,
        order: dict[str, Any],
        functions: dict[str, JobFunction[..., Any]],
        to_close: list[socket.socket],
    ) -> None:
        number = order["child"]
        if order["do"] == "fork":
            self._fork(number, functions, to_close)
            return
        for pid, its in self._children.items():
            if its == number:
                _signal_group(pid, order["signal"])

    def _fork(
        self,
        number: int,
        functions: dict[str, JobFunction[..., Any]],
        to_close: list[socket.socket],
    ) -> None:
        own = self._lines.sockets.pop(0)
        # What is buffered would be written by this process and by each child.
        sys.stdout.flush()
        sys.stderr.flush()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            os.close(own)
            self._lines.say(child=number, refused=str(error))
            return
        if pid == 0:
            _as_child(own, parent, to_close, lambda link: live(link, functions))
        os.close(own)
        # Here and in the child: whichever comes first, a signal finds the group.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
        self._children[pid] = number
        self._lines.say(child=number, pid=pid)

    def _bury_the_dead(self) -> None:
        for pid in list(self._children):
            ended = _bury(pid)
            if ended is not None:
                status, peak = ended
                number = self._children.pop(pid)
                self._lines.say(child=number, status=status, peak=peak)


def _bury(pid: int) -> tuple[int, int] | None:
    """How this child has ended, and the most memory that it ever held; None if it runs."""
    if hasattr(os, "waitid"):
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            return None
        # While it is not waited for, nobody else can have its number. What it has started and
        # left behind ends here.
        # rule:27 what an attempt has started ends with it
        _signal_group(pid, signal.SIGKILL)
    found, status, usage = os.wait4(pid, os.WNOHANG)
    if not found:
        return None
    if not hasattr(os, "waitid"):
        _signal_group(pid, signal.SIGKILL)
    return status, _peak_bytes(usage.ru_maxrss)


def _peak_bytes(most: int) -> int:
    if sys.platform == "darwin":
        return most
    return most * 1024


def _signal_group(pid: int, number: int) -> None:
    # An error: the group is gone, or it is a zombie, which macOS does not let be signalled.
    with contextlib.suppress(OSError):
        os.killpg(pid, number)


def _other_threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each is not threading.main_thread()]


def _as_child(
    own: int, parent: int, to_close: list[socket.socket], run: Callable[[socket.socket], None]
) -> NoReturn:
    """What a new child does. Never returns into the code of the server."""
    try:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # Until its attempt begins, a child ends by the end of its line alone.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setpgid(0, 0)
        here.die_with_parent(signal.SIGKILL, parent)
        here.be_killed_first()
        for each in to_close:
            each.close()
        # Named, so that it stays open until the end.
        link = socket.socket(fileno=own)
        run(link)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(EXIT_BROKEN)
