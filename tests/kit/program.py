"""A program that goes on while a test looks at it."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from tests.kit.environment import LIMIT_S

__all__ = ["Program"]


class Program:
    """Owns one process, and what it has written so far; killed by its pid at the end.

    reads: which of its streams are `text`. With `stderr` its stdout is kept for the end.
    terminal: what is read is a terminal.
    has_session: it leads a session of its own, so that Ctrl-C of the tests is not for it.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        *,
        reads: Literal["stderr", "both"] = "both",
        terminal: bool = False,
        has_session: bool = False,
    ) -> None:
        self._text = ""
        self._grown = threading.Condition()
        source, sink = pty.openpty() if terminal else os.pipe()
        try:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if reads == "stderr" else sink,
                stderr=sink,
                start_new_session=has_session,
            )
        finally:
            os.close(sink)
        self._reader = threading.Thread(target=self._read, args=(source,), daemon=True)
        self._reader.start()

    def _read(self, source: int) -> None:
        # A terminal whose other end is gone answers with an error, a pipe with nothing.
        with contextlib.suppress(OSError):
            while piece := os.read(source, 65536):
                with self._grown:
                    self._text += piece.decode()
                    self._grown.notify_all()
        os.close(source)
        with self._grown:
            self._grown.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill it if it still runs."""
        if self.process.poll() is None:
            self.process.kill()
        # A child that outlives the process holds its streams open: that is a failure.
        self.process.communicate(timeout=LIMIT_S)
        self._reader.join(LIMIT_S)

    @property
    def text(self) -> str:
        """All that it has written so far."""
        return self._text

    def wait_until(self, holds: Callable[[str], object]) -> str:
        """All of the text, when something holds of it; fails after LIMIT_S."""
        with self._grown:
            assert self._grown.wait_for(lambda: holds(self._text), LIMIT_S), self._text
            return self._text

    def wait_silent(self, holds: Callable[[str], object]) -> str:
        """The same, also when it will write nothing any more, whether it holds or not."""
        with self._grown:
            self._grown.wait_for(lambda: holds(self._text) or not self._reader.is_alive(), LIMIT_S)
            return self._text

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> int:
        """The exit code, when it has ended by itself."""
        code = self.process.wait(LIMIT_S)
        self._reader.join(LIMIT_S)
        return code
