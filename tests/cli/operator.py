"""Commands that end by themselves: `asyncjobs ...` with what it printed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from tests.cli.process import LIMIT_S, environment


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
    command = [sys.executable, "-m", "asyncjobs", *args]
    if not terminal:
        done = subprocess.run(
            command,
            cwd=folder,
            env=full,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return _ended(done.returncode, done.stdout, done.stderr)
    source, sink = pty.openpty()
    process = subprocess.Popen(
        command, cwd=folder, env=full, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.PIPE
    )
    os.close(sink)
    pieces = []
    # A terminal whose other end is gone answers with an error.
    with contextlib.suppress(OSError):
        while piece := os.read(source, 65536):
            pieces.append(piece)
    os.close(source)
    _, err = process.communicate(timeout=LIMIT_S)
    return _ended(process.returncode, b"".join(pieces).decode().replace("\r\n", "\n"), err.decode())


def _ended(code: int, out: str, err: str) -> Ended:
    assert "asyncjobs/cli" not in err, err  # a traceback through our own code
    return Ended(code, out, err)
