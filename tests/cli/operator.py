"""Commands that end by themselves: `asyncjobs ...` with what it printed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import tempfile
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.kit.commands import run_command, run_on
from tests.kit.environment import LIMIT_S, environment


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """The only line of stdout."""
        (line,) = self.out.splitlines()
        return json.loads(line)

    def rows(self) -> list[list[str]]:
        """The lines of stdout, cut at the tabs."""
        return [line.split("\t") for line in self.out.splitlines()]

    def row(self, first: str) -> list[str]:
        """The first line that begins with this cell."""
        return next(row for row in self.rows() if row[0] == first)


class Operate(Protocol):
    def __call__(
        self, *args: str, env: Mapping[str, str] | None = None, terminal: bool = False
    ) -> Ended: ...


def operate(
    folder: Path, *args: str, env: Mapping[str, str] | None = None, terminal: bool = False
) -> Ended:
    """Run the command to its end. `terminal`: its stdout is one, 200 characters wide."""
    full = environment({"COLUMNS": "200", **(env or {})})
    if not terminal:
        done = run_command(args, folder, full)
        return _ended(done.code, done.out.decode(), done.err.decode())
    source, sink = pty.openpty()
    pieces: list[bytes] = []
    # Read meanwhile: a terminal holds no more than a few lines.
    reader = threading.Thread(target=_read_all, args=(source, pieces), daemon=True)
    reader.start()
    with tempfile.TemporaryFile() as err:
        try:
            code = run_on(args, folder, full, sink, err.fileno())
        finally:
            os.close(sink)
            reader.join(LIMIT_S)
        err.seek(0)
        out = b"".join(pieces).decode().replace("\r\n", "\n")
        return _ended(code, out, err.read().decode())


def _read_all(source: int, pieces: list[bytes]) -> None:
    # A terminal whose other end is gone answers with an error.
    with contextlib.suppress(OSError):
        while piece := os.read(source, 65536):
            pieces.append(piece)
    os.close(source)


def _ended(code: int, out: str, err: str) -> Ended:
    assert "asyncjobs/cli" not in err, err  # a traceback through our own code
    return Ended(code, out, err)
