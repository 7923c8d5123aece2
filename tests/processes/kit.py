"""What a parent of worker processes has written so far, as facts."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.cli.process import Process
from tests.kit.waiting import ticks

READY = re.compile(r"process (\d+) is ready: pid (\d+)")
OLD_ENDED = re.compile(r"process (\d+): the old one \(pid (\d+)\) has ended")


def lines(process: Process) -> list[dict[str, Any]]:
    """The lines of its log, without tracebacks; a process may be writing the last one."""
    whole = process.text[: process.text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines() if line.startswith('{"')]


def matches(process: Process, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    """(number, pid) of each line that says so, in order."""
    found = (pattern.fullmatch(line["event"]) for line in lines(process))
    return [(int(match[1]), int(match[2])) for match in found if match]


def wait_ready(process: Process, number: int) -> list[tuple[int, int]]:
    """(number, pid) of all that have been ready, when there are so many."""
    for _ in ticks():
        if len(found := matches(process, READY)) >= number:
            return found
    raise AssertionError(process.text)


def newest(ready: list[tuple[int, int]]) -> dict[int, int]:
    """The pid of each number."""
    return dict(ready)
