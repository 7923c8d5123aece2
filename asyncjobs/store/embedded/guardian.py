"""The process that owns the embedded server: starts it, restarts it, stops it.

Run as a program by path, with the folder and the server's binary as arguments, so that
it imports a little of the standard library and nothing of asyncjobs. Says one line on
its standard output when the server answers (`ready`), when another guardian was faster
(`taken`) or when the server does not start (`failed` and why), then closes it.

Has a session of its own: Ctrl-C in the terminal ends the users, which still need their
store to give jobs back. Ends when it gets the lock that all users share.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

__all__ = ["GATE", "GUARDIAN", "LOG", "RECORD", "USERS"]

GATE = "lock"
USERS = "users"
GUARDIAN = "guardian"
RECORD = "server.json"
LOG = "log"
_DATA = "data"
_DATA_LOCK = "data.lock"

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 30.0
_LONGEST_BACKOFF_S = 5.0
_STEADY_S = 10.0
"""A server that has run this long is started again without delay."""
_PR_SET_PDEATHSIG = 1
_LONGEST_SOCKET = 103
"""Bytes of a unix socket's path: 107 on Linux, 103 on macOS."""

_SETTINGS = """\
port 0
unixsocket {socket}
unixsocketperm 700
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
always-show-logo no
"""


class _NotStarted(Exception):
    """The server did not start. The message says how it ended."""


class Guardian:
    """Owns the server process, its private socket folder and the record of them."""

    def __init__(self, folder: Path, binary: str) -> None:
        self._folder = folder
        self._binary = binary
        self._server: subprocess.Popen[bytes] | None = None
        self._is_over = threading.Event()
        self._changing = threading.Lock()
        self._socket = Path()

    def run(self) -> None:
        """Run the server. Returns when the last user has gone and the server has stopped."""
        past = self._forget_past()
        self._socket = _private_folder() / "s"
        try:
            try:
                # Before anybody is told that the server answers, for that user may delete the
                # folder at once. Nobody holds a file that is made there later, so the store would
                # be stopped under its users.
                users = os.open(self._folder / USERS, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
                self._start(past)
                self._wait_until_it_answers()
            except (_NotStarted, OSError) as error:
                _say(f"failed {error}")
                return
            _say("ready")
            last = threading.Thread(target=self._stop_after_last_user, args=(users,), daemon=True)
            last.start()
            self._keep_running()
        finally:
            self._end_server()
            (self._folder / RECORD).unlink(missing_ok=True)
            shutil.rmtree(self._socket.parent, ignore_errors=True)

    def _forget_past(self) -> Path | None:
        """The socket that a killed guardian has left behind, if any."""
        record = self._folder / RECORD
        try:
            past = Path(json.loads(record.read_bytes())["socket"])
        except (OSError, ValueError, KeyError, TypeError):
            return None
        record.unlink(missing_ok=True)
        if past.name != "s" or not past.parent.name.startswith("aj-"):
            return None
        return past

    def _start(self, past: Path | None = None) -> None:
        """Start the server; raises _NotStarted when its data are in use, OSError."""
        data = self._folder / _DATA
        data.mkdir(mode=0o700, exist_ok=True)
        # The server inherits this lock. So no second server ever writes to its files, even if this
        # process was killed and the server was not.
        lock = os.open(self._folder / _DATA_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _take_data(lock, past)
            # In a copied folder this is the socket of the original, whose server may be alive.
            if past is not None and not _answers(past):
                shutil.rmtree(past.parent, ignore_errors=True)
            self._socket.unlink(missing_ok=True)
            with (self._folder / LOG).open("ab") as log, self._changing:
                if self._is_over.is_set():
                    return
                server = subprocess.Popen(
                    [self._binary, "-"],
                    cwd=data,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=(lock,),
                    # Runs between fork and exec, where another thread may hold any lock for
                    # ever. It calls only prctl and getppid, which take no lock. Only the child
                    # itself can ask for this signal, so it has to be done here.
                    preexec_fn=_ending_with_this_process(),  # noqa: PLW1509
                )
                self._server = server
        finally:
            os.close(lock)
        assert server.stdin is not None
        try:
            with server.stdin as settings:
                settings.write(_SETTINGS.format(socket=_quoted(self._socket)).encode())
        except BrokenPipeError:
            # It has ended already. The wait for its answer reports that.
            return
        self._write_record(server.pid)

    def _write_record(self, pid: int) -> None:
        record = self._folder / RECORD
        new = record.with_suffix(".new")
        about = {"socket": str(self._socket), "guardian": os.getpid(), "server": pid}
        new.write_text(json.dumps(about))
        new.replace(record)

    def _wait_until_it_answers(self) -> None:
        end = time.monotonic() + _START_LIMIT_S
        server = self._server
        while server is not None and server.poll() is None and time.monotonic() < end:
            if _answers(self._socket):
                return
            # Nothing reports when a server begins to listen. This process has no loop to block.
            time.sleep(0.005)
        code = server and server.poll()
        if code is None:
            raise _NotStarted("does not answer")
        raise _NotStarted(f"ended with {code}")

    def _keep_running(self) -> None:
        """Wait until the server ends, and start it again while there are users."""
        backoff_s = 0.1
        while (server := self._server) is not None:
            started = time.monotonic()
            server.wait()
            if time.monotonic() - started > _STEADY_S:
                backoff_s = 0.1
            if self._is_over.wait(backoff_s):
                return
            backoff_s = min(backoff_s * 2, _LONGEST_BACKOFF_S)
            try:
                self._start()
            except (_NotStarted, OSError) as error:
                # Tried again in the next round, which still waits for the ended server.
                os.write(2, f"not restarted: {error}\n".encode(errors="replace"))

    def _stop_after_last_user(self, users: int) -> None:
        # Kept until this process ends, so a user that arrives meanwhile waits for the end.
        fcntl.flock(users, fcntl.LOCK_EX)
        with self._changing:
            self._is_over.set()
        self._end_server()

    def _end_server(self) -> None:
        server = self._server
        if server is None or server.poll() is not None:
            return
        server.terminate()
        try:
            server.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _take_data(fd: int, past: Path | None) -> None:
    """Wait for the end of a server that still writes to the data, and press it to end."""
    end = time.monotonic() + _STOP_LIMIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > end:
                raise _NotStarted("an earlier server still uses the data") from None
        if past is not None:
            _ask(past, b"SHUTDOWN\r\n")
            past = None
        # A blocking flock has no time limit, and this wait must have one.
        time.sleep(0.01)


def _ending_with_this_process() -> Callable[[], None] | None:
    """The function that the child calls before the server starts, so that it ends if its guardian
    is killed. Linux only; elsewhere the next guardian ends the server.
    """
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    guardian = os.getpid()

    def ask_for_signal() -> None:
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM))
        if os.getppid() != guardian:
            os._exit(1)  # killed in between: no signal would come

    return ask_for_signal


def _answers(path: Path) -> bool:
    # -LOADING is an answer, too: users wait until loading has ended.
    return _ask(path, b"PING\r\n")[:1] in (b"+", b"-")


def _ask(path: Path, command: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(1.0)
        try:
            link.connect(os.fsencode(path))
            link.sendall(command)
            return link.recv(256)
        except OSError:
            return b""


def _private_folder() -> Path:
    for base in (os.environ.get("TMPDIR"), "/tmp"):
        path = os.path.join(base or "", f"aj-{os.urandom(6).hex()}")
        if base and len(os.fsencode(path)) + len("/s") <= _LONGEST_SOCKET:
            try:
                os.mkdir(path, 0o700)
            except OSError:
                continue
            return Path(path)
    raise OSError("no temporary folder for the socket: neither $TMPDIR nor /tmp can be used")


def _quoted(path: Path) -> str:
    """A path as the server's settings accept it, with any characters."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in os.fsencode(path)) + '"'


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):  # nobody listens any more
        os.write(1, f"{text}\n".encode(errors="replace"))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.close(null)


def _stay(number: int, frame: FrameType | None) -> None:
    """Do nothing: a signal to a whole service must not stop the store under its workers."""


def main(folder: Path, binary: str) -> None:
    """Detach from the parent, and guard the folder's server."""
    if os.fork():
        os._exit(0)
    # Handlers instead of SIG_IGN, which the server would inherit.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stay)
    os.umask(0o077)
    os.chdir("/")
    lock = os.open(folder / GUARDIAN, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    for _ in range(40):
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            # A user that checks for a guardian holds it for a moment. Another guardian holds it for
            # good, and a blocking flock would never find that out.
            time.sleep(0.025)
    else:
        _say("taken")
        return
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(log, 2)
    os.close(log)
    Guardian(folder, binary).run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
