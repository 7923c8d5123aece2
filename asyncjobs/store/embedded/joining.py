"""Joins an embedded store and leaves it. Everything here blocks: call it in a thread."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from asyncjobs.errors import ConfigError, StoreUnavailable
from asyncjobs.store.embedded import guardian
from asyncjobs.store.embedded.folder import HOME_VARIABLE, StoreFolder, find_binary
from asyncjobs.store.embedded.locks import FileLock

__all__ = ["Hold", "join"]

LIMIT_S = 60.0
"""How long joining may take: in the worst case one server stops and another one starts."""
LOADING_LIMIT_S = 600.0
"""How long the server may load its files. It reports while it does."""
_LOOK_AGAIN_S = 0.01
_LAST_LINES = 8


class Hold:
    """One user's hold on the store. While it is held, the server is not stopped."""

    def __init__(self, users: FileLock, watch: FileLock, socket_path: str) -> None:
        self._users = users
        self._watch = watch
        self.socket_path = socket_path

    def is_guarded(self) -> bool:
        """False if the guardian has been killed. Does not block."""
        return _is_taken(self._watch)

    def is_in_place(self) -> bool:
        """False if the folder was deleted or replaced: the next user there starts another store.
        May block."""
        return self._users.is_in_place() and self._watch.is_in_place()

    def release(self) -> None:
        """Leave. The last user's release stops the server. Does not block; may be repeated."""
        self._users.close()
        self._watch.close()


def join(folder: StoreFolder, stop: threading.Event) -> Hold:
    """Join the folder's store, and start it if nobody else has. Returns when it answers.

    Gives up early once `stop` is set. Raises ConfigError for a folder or a platform that cannot
    work, and StoreUnavailable with the server's last lines if it does not start.
    """
    folder.prepare()
    try:
        return _Arrival(folder, stop).join()
    except OSError as error:
        raise ConfigError(
            f"the embedded store cannot work in {folder.path}: {error.strerror or error}; set "
            f"{HOME_VARIABLE} to a folder on a local disk"
        ) from error


class _Arrival:
    """One user while it joins."""

    def __init__(self, folder: StoreFolder, stop: threading.Event) -> None:
        self._folder = folder
        self._stop = stop
        self._end_s = time.monotonic() + LIMIT_S
        self._users = FileLock(folder.path / guardian.USERS)
        self._watch = FileLock(folder.path / guardian.GUARDIAN)

    def join(self) -> Hold:
        try:
            while True:
                self._enter()
                path = self._wait_until_it_answers()
                if path is not None:
                    return Hold(self._users, self._watch, path)
                self._users.free()
        except BaseException:
            self._users.close()
            self._watch.close()
            raise

    def _enter(self) -> None:
        """Become a user of a store that has a guardian."""
        gate = FileLock(self._folder.path / guardian.GATE)
        try:
            while not gate.take():
                self._pause("another process that is starting it does not end")
            # Refused while the guardian stops the server. After that there is no guardian.
            while not self._users.take(shared=True):
                self._pause("it is being stopped and does not end")
            if not _is_taken(self._watch):
                _start_guardian(self._folder)
        finally:
            gate.close()

    def _wait_until_it_answers(self) -> str | None:
        """The server's socket, or None if the guardian has gone meanwhile."""
        loading_end_s = time.monotonic() + LOADING_LIMIT_S
        while True:
            path = _recorded_socket(self._folder.path)
            answer = b""
            if path is not None:
                answer = _ping(path)
            if answer.startswith(b"+"):
                return path
            if not _is_taken(self._watch):
                return None
            if answer.startswith(b"-LOADING"):
                self._end_s = loading_end_s
            self._pause(
                f"its server does not answer at {path or 'its socket'}; look into "
                f"{self._folder.path / guardian.LOG}. In another container it cannot be "
                f"reached: then set ASYNCJOBS_URL, or an {HOME_VARIABLE} for each"
            )

    def _pause(self, why: str) -> None:
        if self._stop.is_set() or time.monotonic() > self._end_s:
            raise StoreUnavailable(f"the store at {self._folder.address} is not available: {why}")
        # Joining runs in its own thread (backend.py), never on the event loop. Neither a file lock
        # nor a starting server can be awaited with a time limit.
        time.sleep(_LOOK_AGAIN_S)


def _is_taken(watch: FileLock) -> bool:
    # Shared, so that many users can look at once. The guardian holds it exclusively.
    if not watch.take(shared=True):
        return True
    watch.free()
    return False


def _start_guardian(folder: StoreFolder) -> None:
    """Start a guardian. Returns when its server answers, or when another guardian was faster."""
    if not sys.executable:
        raise ConfigError(
            "the embedded store needs a Python interpreter to start, and sys.executable is "
            "empty here; set ASYNCJOBS_URL=redis://localhost:6379"
        )
    # By path and isolated, so that it imports neither the user's modules nor asyncjobs.
    starting = subprocess.Popen(
        [sys.executable, "-I", "-S", guardian.__file__, str(folder.path), find_binary()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    with starting:
        try:
            said, _ = starting.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired:
            starting.kill()
            said = b"failed gave no sign"
    word, _, why = said.decode(errors="replace").strip().partition(" ")
    if word in ("ready", "taken"):
        return
    log = folder.path / guardian.LOG
    raise StoreUnavailable(
        f"the store at {folder.address} did not start: its server {why or 'has no guardian'}; "
        f"its last lines ({log}):\n{_last_lines(log)}\n"
        "Fix the cause, or set ASYNCJOBS_URL to another store."
    )


def _last_lines(log: Path) -> str:
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "(none)"
    return "\n".join(lines[-_LAST_LINES:]) or "(none)"


def _recorded_socket(folder: Path) -> str | None:
    try:
        about = json.loads((folder / guardian.RECORD).read_bytes())
        return str(about["socket"])
    except (OSError, ValueError, KeyError, TypeError):
        return None  # not there yet


def _ping(path: str) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(1.0)
        try:
            link.connect(os.fsencode(path))
            link.sendall(b"PING\r\n")
            return link.recv(256)
        except OSError:
            return b""
