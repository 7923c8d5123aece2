"""Runs `asyncjobs ...` to its end, without an interpreter's start for each command.

One process imports the command line and runs none of it; each command is a fork of that one.
So a command still is a process of its own, with its own folder, environment, streams and exit
code, and nothing that it changes is there for the next one. What an interpreter reads when
it starts cannot be changed by a fork: such commands are started as users start them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, NoReturn, TextIO

from tests.kit.environment import LIMIT_S, ROOT

FIXED_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC")
"""Beginnings of the variables that an interpreter, or the loader, reads once."""

MOST_CHARACTERS = 50_000
"""Of the arguments: more is no message of a socket."""


class Ended(NamedTuple):
    """How a command has ended, and what it has written."""

    code: int
    out: bytes
    err: bytes


def run_command(args: Sequence[str], folder: Path, env: Mapping[str, str]) -> Ended:
    """Run `python -m asyncjobs ARGS` in the folder; raises TimeoutExpired after LIMIT_S."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        code = run_on(args, folder, env, out.fileno(), err.fileno())
        out.seek(0)
        err.seek(0)
        return Ended(code, out.read(), err.read())


def run_on(
    args: Sequence[str], folder: Path, env: Mapping[str, str], stdout: int, stderr: int
) -> int:
    """The same with its output on two descriptors; the exit code."""
    if _starts_alike(env) and sum(map(len, args)) < MOST_CHARACTERS:
        return _ready().run(args, folder, env, stdout, stderr)
    command = [sys.executable, "-m", "asyncjobs", *args]
    return subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        timeout=LIMIT_S,
        check=False,
    ).returncode


def _fixed(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(FIXED_AT_START)}


def _base() -> dict[str, str]:
    """The environment in which the process that is forked has started."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}


def _starts_alike(env: Mapping[str, str]) -> bool:
    return _fixed(env) == _fixed(_base())


@functools.cache
def _ready() -> Forks:
    return Forks()


class Forks:
    """Owns the process that is forked for each command; it ends with this one."""

    def __init__(self) -> None:
        self._line, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with other:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.kit.commands", str(other.fileno())],
                cwd=ROOT,
                env=_base(),
                stdin=subprocess.DEVNULL,
                pass_fds=(other.fileno(),),
                # Ctrl-C is for the tests; a command ends with them.
                start_new_session=True,
            )
        atexit.register(self.close)

    def close(self) -> None:
        # It ends when nobody is at the other end of the line.
        self._line.close()
        self._process.wait(LIMIT_S)

    def run(
        self, args: Sequence[str], folder: Path, env: Mapping[str, str], stdout: int, stderr: int
    ) -> int:
        request = json.dumps([list(args), str(folder), dict(env)]).encode()
        socket.send_fds(self._line, [request], [stdout, stderr])
        self._line.settimeout(LIMIT_S)
        pid = int(self._line.recv(64))
        try:
            return int(self._line.recv(64))
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            self._line.settimeout(None)
            self._line.recv(64)
            raise subprocess.TimeoutExpired(["asyncjobs", *args], LIMIT_S) from None


# The other side: a process of its own.


def serve(line: socket.socket) -> None:
    """Run each command that is asked for in a fork, until the line is closed."""
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        _serve(line)


def _serve(line: socket.socket) -> None:
    while True:
        request, streams, _, _ = socket.recv_fds(line, 1 << 20, 2)
        if not request:
            return
        pid = os.fork()
        if pid == 0:
            line.close()
            _become(request, streams)
        for stream in streams:
            os.close(stream)
        line.send(str(pid).encode())
        _, status = os.waitpid(pid, 0)
        line.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: bytes, streams: Sequence[int]) -> NoReturn:
    """Be the command: what `python -m asyncjobs` does once it has started."""
    args, folder, env = json.loads(request)
    code = 1
    try:
        for number, stream in enumerate(streams, 1):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdout = sys.__stdout__ = _stream(1, sys.stdout, "strict")
        sys.stderr = sys.__stderr__ = _stream(2, sys.stderr, "backslashreplace")
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(env)
        time.tzset()
        sys.argv = ["asyncjobs", *args]
        sys.path[0] = folder
        code = _main()
    finally:
        # Nothing of the process that was forked may run at the end, such as its own atexit.
        os._exit(code)


def _stream(number: int, before: TextIO, errors: str) -> TextIO:
    """As the interpreter makes them: what it knows of the old one does not hold any more."""
    return open(
        number,
        "w",
        encoding=before.encoding,
        errors=errors,
        buffering=1 if number == 2 or os.isatty(number) else -1,
        closefd=False,
    )


def _main() -> int:
    from asyncjobs.__main__ import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    return code if isinstance(code, int) else 0


def _prepare() -> None:
    """Import what commands import, so that no fork has to. Starts no thread and no loop."""


if __name__ == "__main__":
    _prepare()
    with socket.socket(fileno=int(sys.argv[1])) as given:
        serve(given)
