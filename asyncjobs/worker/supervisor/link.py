"""The parent, as a supervised worker process sees it: two pipes.

Into one it writes a single line when it is ready. The other is never written to: it comes
to its end when the parent is gone, however the parent died.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final, Self

import orjson

from asyncjobs.errors import UsageError

__all__ = ["VARIABLE", "ParentLink", "link_text"]

VARIABLE: Final = "ASYNCJOBS_SUPERVISED"
"""Set by the supervisor for its processes: `number:ready:life`, two file descriptors."""


def link_text(number: int, ready: int, life: int) -> str:
    """The value of VARIABLE."""
    return f"{number}:{ready}:{life}"


class ParentLink:
    """Owns this process's ends of the pipes. `number` counts the processes from 1."""

    def __init__(self, number: int, ready: int, life: int) -> None:
        self.number = number
        self._ready = ready
        self._life = life
        # A program that a job starts must neither hold the pipes open nor write to them.
        os.set_inheritable(ready, False)
        os.set_inheritable(life, False)

    @classmethod
    def take(cls) -> Self | None:
        """The link that the environment tells of, once; None without a supervisor.

        Raises UsageError when the variable was not set by one.
        """
        text = os.environ.pop(VARIABLE, None)
        if text is None:
            return None
        try:
            number, ready, life = (int(part) for part in text.split(":"))
            return cls(number, ready, life)
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{VARIABLE}={text!r} is not from a running supervisor ({error}); unset it, only "
                "asyncjobs worker --processes sets it for its own processes"
            ) from None

    def say_ready(self, message: dict[str, Any]) -> None:
        """Tell the parent that this worker takes jobs; once."""
        line = orjson.dumps(message) + b"\n"
        try:
            while line:
                line = line[os.write(self._ready, line) :]
        except BrokenPipeError:
            # The parent is gone; the other pipe says so.
            return
        finally:
            os.close(self._ready)

    def watch(self, on_gone: Callable[[], None]) -> None:
        """Call `on_gone` in a thread when the parent has died."""

        def wait() -> None:
            while os.read(self._life, 1):
                continue
            on_gone()

        threading.Thread(target=wait, name="asyncjobs-parent", daemon=True).start()
