"""The jobs of the census: what one Python file holds.

ASYNCJOBS_URL=redis://localhost:6379 asyncjobs worker tasks:app
"""

from __future__ import annotations

import ast
import gc
import os
import threading
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal, TypedDict

from asyncjobs import INJECTED, AsyncJobs, JobContext, RetryPolicy, exponential

LONGEST: Final = 10
"""Functions that each file reports, so that one file may fill the whole table."""
FAULT_EVERY: Final = 40
# Windows cannot fork processes: there it runs in threads.
ISOLATION: Final[Literal["process", "thread"]] = "process" if hasattr(os, "fork") else "thread"

_parsing = threading.Lock()
# The store's address comes from $ASYNCJOBS_URL; without one it is the embedded store.
app = AsyncJobs()


class Function(TypedDict):
    """A function or coroutine; `name` is qualified, as in `Class.method`."""

    name: str
    line: int
    lines: int


class Census(TypedDict):
    """What a file holds; `longest` has its longest functions first.

    `queued_ms` is how long the job waited for its first attempt (None in later ones),
    `ran_ms` how long this attempt ran.
    """

    lines: int
    functions: int
    coroutines: int
    classes: int
    imports: int
    longest: list[Function]
    attempt: int
    queued_ms: float | None
    ran_ms: float


class PlantedFault(OSError):
    """Stands for what passes by itself: a busy disk, a dropped connection."""


# Parsing computes and holds the interpreter's lock, so threads would take turns on one core. Each
# file has a process of its own, and as many of them run at a time as there are cores.
# A file that does not parse never will: SyntaxError and ValueError (a null byte) end the
# job at once, without retries.
@app.job(
    retry=RetryPolicy(max_attempts=4, backoff=exponential(base=0.2, cap=2)),
    discard_on=(SyntaxError, ValueError),
    isolation=ISOLATION,
)
def census_file(path: str, *, ctx: JobContext = INJECTED) -> Census:
    """Read the file at `path` and count what is in it."""
    queued = datetime.now(UTC) - ctx.enqueued_at
    began_s = time.perf_counter()
    census = count(Path(path).read_bytes(), path, attempt=ctx.attempt)
    census["ran_ms"] = (time.perf_counter() - began_s) * 1000
    if ctx.attempt == 1:
        census["queued_ms"] = max(queued.total_seconds(), 0.0) * 1000
    # After the work, as a write that fails would: all of it is done again.
    if ctx.attempt == 1 and has_planted_fault(ctx.id):
        raise PlantedFault(f"planted in the first attempt of {ctx.id}")
    return census


def has_planted_fault(job_id: str) -> bool:
    """Whether the job's first attempt fails: about one in 40, always the same ones."""
    return zlib.crc32(job_id.encode()) % FAULT_EVERY == 0


def count(source: bytes, path: str, *, attempt: int = 1) -> Census:
    """Count what is in `source`. Raises SyntaxError and ValueError when it does not parse.

    Parsing bytes and not text lets the file declare its own encoding.
    """
    tree = _parse(source, path)
    census = Census(
        lines=len(source.splitlines()),
        functions=0,
        coroutines=0,
        classes=0,
        imports=0,
        longest=[],
        attempt=attempt,
        queued_ms=None,
        ran_ms=0.0,
    )
    for name, node in _definitions(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            census["imports"] += 1
        elif isinstance(node, ast.ClassDef):
            census["classes"] += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if isinstance(node, ast.FunctionDef):
                census["functions"] += 1
            else:
                census["coroutines"] += 1
            last = node.end_lineno or node.lineno
            census["longest"].append(
                Function(name=name, line=node.lineno, lines=last - node.lineno + 1)
            )
    census["longest"].sort(key=lambda function: (-function["lines"], function["line"]))
    del census["longest"][LONGEST:]
    return census


def _parse(source: bytes, path: str) -> ast.Module:
    # Before CPython 3.13 the parser's depth is one number for all threads. A garbage
    # collection in its midst lets another thread in, which may parse too, if only to print
    # a traceback, and it ends in "SystemError: AST constructor recursion depth mismatch".
    with _parsing:
        gc.disable()
        try:
            return ast.parse(source, filename=path)
        finally:
            gc.enable()


def _definitions(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Every node with its qualified name. A stack and no recursion: nesting has no limit."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        scope, node = stack.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}" if scope else node.name
        yield scope, node
        stack.extend((scope, child) for child in ast.iter_child_nodes(node))
