"""What is encoded and kept costs about its own length, and not the buffer it was written in."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKERS = {
    "a new job": "encode_call('f', (number,), {}, 0, None, None, None)",
    "the envelope of a retry": "Envelope('f', [number], {}, 0).encode()",
    "a result": "Outcome(State.SUCCEEDED, number).encode()",
    "an error": "Outcome(State.DEAD, message=str(number)).encode()",
    "a revived job": "revived(letter, number)",
    "a progress note": "note(number)",
}
PROGRAM = """
from asyncjobs.model.envelope import Envelope, encode_call
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.jobs.context import JobContext
from asyncjobs.model.outcome import revived
from asyncjobs.model.job import State

def note(number, notes={{}}):
    context = JobContext.__new__(JobContext)
    context._on_progress = notes.__setitem__
    context.progress(number)
    return notes.popitem()[1]

def resident():
    for line in open("/proc/self/status"):
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024

letter = dead_letter(Outcome(State.DEAD).encode(), Envelope("f", [1], {{}}, 0).encode())
kept = [{maker} for number in range(100)]
before = resident()
kept += [{maker} for number in range(20_000)]
print((resident() - before) // 20_000, max(map(len, kept)))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS.keys())
def test_many_that_wait_cost_their_own_length(maker: str) -> None:
    program = PROGRAM.format(maker=maker)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    each, length = map(int, done.stdout.split())
    # An object has some 40 bytes around it, and the list a place for it.
    assert each < length + 200
