"""Arriving at an embedded store and leaving it. Everything here blocks: call it in a thread."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from asyncjobs.backends.embedded import guardian
from asyncjobs.backends.embedded.folder import HOME_VARIABLE, StoreFolder, find_binary
from asyncjobs.backends.embedded.locks import FileLock
from asyncjobs.errors import ConfigError, StoreUnavailable

__all__ = ["Hold", "join"]

LIMIT_S = 60.0
"""How long arriving may take: the last one leaves, a server stops, another starts."""
LOADING_LIMIT_S = 600.0
"""How long the server may read its files; it says that it does."""
_LOOK_AGAIN_S = 0.01
_LAST_LINES = 8


class Hold:
    """One user's right to the store: while it is held the server is not stopped."""

    def __init__(self, users: FileLock, watch: FileLock, socket_path: str) -> None:
        self._users = users
        self._watch = watch
        self.socket_path = socket_path

    def is_guarded(self) -> bool:
        """False when the guardian has been killed. Does not block."""
        return _is_taken(self._watch)

    def is_in_place(self) -> bool:
        """False when the folder was deleted or replaced: who arrives there starts a store of
        its own beside this one. May block."""
        return self._users.is_in_place() and self._watch.is_in_place()

    def release(self) -> None:
        """Leave; the last one's leaving stops the server. Does not block; repeatable."""
        self._users.close()
        self._watch.close()


def join(folder: StoreFolder, stop: threading.Event) -> Hold:
    """Join the folder's store, starting it as the first; returns when it answers.

    Gives up early once `stop` is set. Raises ConfigError for a folder or a platform that
    cannot work, StoreUnavailable with the server's last words when it does not start.
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
    """One user on the way in."""

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
            # Refused while the guardian stops the server; then there is none any more.
            while not self._users.take(shared=True):
                self._pause("it is being stopped and does not end")
            if not _is_taken(self._watch):
                _start_guardian(self._folder)
        finally:
            gate.close()

    def _wait_until_it_answers(self) -> str | None:
        """The server's socket; None when the guardian has gone meanwhile."""
        loading_end_s = time.monotonic() + LOADING_LIMIT_S
        while True:
            path = _recorded_socket(self._folder.path)
            answer = _ping(path) if path else b""
            if path and answer.startswith(b"+"):
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
        # Joining runs in a thread of its own (backend.py), never on the event loop, and
        # neither a file lock nor a starting server can be waited for with a limit.
        time.sleep(_LOOK_AGAIN_S)


def _is_taken(watch: FileLock) -> bool:
    if not watch.take(shared=True):
        return True
    watch.free()
    return False


def _start_guardian(folder: StoreFolder) -> None:
    """Returns when the server answers, or when another guardian was faster."""
    if not sys.executable:
        raise ConfigError(
            "the embedded store needs a Python interpreter to start, and sys.executable is "
            "empty here; set ASYNCJOBS_URL=redis://localhost:6379"
        )
    # By path and isolated: neither the user's modules nor asyncjobs are imported there.
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
        "Mend what they say, or set ASYNCJOBS_URL to another store."
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
