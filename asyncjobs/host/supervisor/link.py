"""The parent, as a supervised worker process sees it: two pipes.

Into the first one the worker writes a line when it is ready. After that it writes reports of its
health, if the parent wants them. Nobody writes to the second one: the worker reads its end when the
parent is gone, however the parent has died.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Any, Final, Self

import orjson

from asyncjobs.errors import UsageError

__all__ = ["VARIABLE", "ParentLink", "link_text"]

VARIABLE: Final = "ASYNCJOBS_SUPERVISED"
"""Set by the supervisor for its processes: `number:ready:life`. The last two are file descriptors.
`:reports` follows if the parent wants reports of the health."""
REPORT_BYTES: Final = 512
"""On each POSIX system a pipe takes a write of this size as a whole."""


def link_text(number: int, ready: int, life: int, *, reports: bool = False) -> str:
    """The value of VARIABLE."""
    text = f"{number}:{ready}:{life}"
    if reports:
        text += ":reports"
    return text


class ParentLink:
    """Owns this process's ends of the pipes. `number`: its number among the processes, from 1."""

    def __init__(self, number: int, ready: int, life: int, *, reports: bool = False) -> None:
        self.number = number
        self.reports = reports
        """Whether the parent wants `report` to be called."""
        self._is_ready = False
        self._ready = ready
        self._life = life
        # A program that a job starts must neither hold the pipes open nor write to them.
        os.set_inheritable(ready, False)
        os.set_inheritable(life, False)

    @classmethod
    def take(cls) -> Self | None:
        """The link from the environment, taken out of it; None without a supervisor.

        Raises UsageError if no supervisor has set the variable.
        """
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            numbers, colon, _ = text.partition(":reports")
            number, ready, life = (int(part) for part in numbers.split(":"))
            return cls(number, ready, life, reports=bool(colon))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{VARIABLE}={text!r} is not from a running supervisor ({error}); unset it, only "
                "asyncjobs worker --processes sets it for its own processes"
            ) from None

    def say_ready(self, message: dict[str, Any]) -> None:
        """Tell the parent that this worker takes jobs. Call it once."""
        line = orjson.dumps(message) + b"\n"
        try:
            while line:
                line = line[os.write(self._ready, line) :]
        except BrokenPipeError:
            # The parent is gone. `watch` notices that by the other pipe.
            return
        finally:
            if self.reports:
                # A parent that does not read must not hold up the thread that reports.
                os.set_blocking(self._ready, False)
                self._is_ready = True
            else:
                os.close(self._ready)

    def report(self, message: dict[str, Any]) -> None:
        """Tell the parent the health of this worker. Does nothing before it is ready.

        A report that the pipe has no room for is left out: the next one says it again.
        """
        line = orjson.dumps(message) + b"\n"
        if self._is_ready and len(line) <= REPORT_BYTES:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(self._ready, line)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call `on_gone` in a thread when the parent has died."""

        def wait() -> None:
            while os.read(self._life, 1):
                continue
            on_gone()

        threading.Thread(target=wait, name="asyncjobs-parent", daemon=True).start()
