"""What happened outside the store: a line for each start and end of an execution.

Each process appends to a file of its own, a line in one call, so that a kill tears none
and nothing is lost while the machine lives. Times are of the machine's monotonic clock,
which all processes share.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asyncjobs import JobContext
from asyncjobs.model.clock import new_id

__all__ = ["ENV", "Execution", "executions", "recorded"]

ENV = "ASYNCJOBS_CHAOS_LEDGER"
_files: dict[int, int] = {}


def _write(**fields: object) -> None:
    pid = os.getpid()
    if pid not in _files:
        path = Path(os.environ[ENV]) / str(pid)
        _files[pid] = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(_files[pid], json.dumps({**fields, "at": time.monotonic()}).encode() + b"\n")


@contextmanager
def recorded(ctx: JobContext) -> Iterator[str]:
    """Around the body of a job: writes down its start and how it ended. Gives the
    execution's own name, which a job returns so that the store says which one it was."""
    run, how = new_id(), "stopped"
    _write(run=run, job=ctx.id, attempt=ctx.attempt, crashes=ctx.crashes)
    try:
        yield run
        how = "returned"
    except Exception:
        how = "raised"
        raise
    finally:
        _write(run=run, how=how)


@dataclass
class Execution:
    """One execution of a job; `how` is empty when nobody saw its end."""

    run: str
    job: str
    attempt: int
    crashes: int
    pid: int
    start_s: float
    end_s: float = float("inf")
    how: str = ""

    def __str__(self) -> str:
        end = "" if self.how == "" else f" {self.how} at {self.end_s:.3f}"
        return (
            f"{self.job} attempt {self.attempt} crashes {self.crashes} run {self.run} "
            f"on {self.pid}: started at {self.start_s:.3f}{end}"
        )


def executions(folder: Path) -> list[Execution]:
    """All that the ledger in this folder knows, by start."""
    found: dict[str, Execution] = {}
    for path in folder.iterdir():
        for line in path.read_text().splitlines():
            fields = json.loads(line)
            if "job" in fields:
                found[fields["run"]] = Execution(
                    fields["run"],
                    fields["job"],
                    fields["attempt"],
                    fields["crashes"],
                    int(path.name),
                    fields["at"],
                )
            else:
                execution = found[fields["run"]]
                execution.end_s, execution.how = fields["at"], fields["how"]
    return sorted(found.values(), key=lambda execution: execution.start_s)
