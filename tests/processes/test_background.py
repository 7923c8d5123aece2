"""Tests that run in the background, where a shell has SIGINT ignored, test the same."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
IGNORED = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]
TELL = f"""
import signal
print([int(n) for n in {[int(n) for n in IGNORED]} if signal.getsignal(n) is signal.SIG_IGN])
"""


def ignore_all() -> None:
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)


def test_a_child_ignores_no_signal() -> None:
    told = subprocess.run(
        [sys.executable, "-c", TELL], capture_output=True, text=True, check=True, timeout=60
    )
    assert told.stdout.strip() == "[]"


@pytest.mark.parametrize("processes", ["0", "1"])
def test_nor_does_one_of_tests_in_the_background(processes: str) -> None:
    here = f"{Path(__file__).relative_to(ROOT)}::{test_a_child_ignores_no_signal.__name__}"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-n", processes, "-p", "no:cacheprovider", here],
        cwd=ROOT,
        preexec_fn=ignore_all,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert run.returncode == 0, run.stdout
