"""File locks. The kernel frees them when their process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from pathlib import Path

__all__ = ["FileLock"]

_open_fds: set[int] = set()
_changing = threading.Lock()


class FileLock:
    """One lock on a file. Each process makes its own.

    Owns a descriptor and closes it in a forked child: with a copy, the child would hold the lock
    for as long as it lives. Never blocks.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError if the file cannot be made."""
        self._path = path
        with _changing:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            _open_fds.add(self._fd)
        # Also closes it for a holder whose event loop ended before it could leave.
        self._finalizer = weakref.finalize(self, _close, self._fd, os.getpid())

    def take(self, *, shared: bool = False) -> bool:
        """Take the lock. False if somebody else has it."""
        try:
            if shared:
                fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            else:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def is_in_place(self) -> bool:
        """False if the file was deleted or replaced: then others lock the new file, and this lock
        keeps nobody out. May block."""
        try:
            there = os.stat(self._path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError:
            # The folder cannot be read just now. Nothing is known, so nothing is changed.
            return True
        ours = os.fstat(self._fd)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def free(self) -> None:
        """Release the lock. It can be taken again."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release the lock for good. Safe to call twice."""
        self._finalizer()


def _close(fd: int, pid: int) -> None:
    if pid != os.getpid():
        # It was closed at the fork, and the number may be that of another file by now.
        return
    with _changing:
        _open_fds.discard(fd)
        # To close it is not enough if a child that C code has forked holds a copy.
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _after_fork_in_child() -> None:
    for fd in _open_fds:
        # Not LOCK_UN: that would take the lock from the parent.
        os.close(fd)
    _open_fds.clear()
    _changing.release()


os.register_at_fork(
    before=_changing.acquire,
    after_in_parent=_changing.release,
    after_in_child=_after_fork_in_child,
)
