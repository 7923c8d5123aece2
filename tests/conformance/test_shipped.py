"""The suite as the author of a store has it: from the package alone, in a project of his own."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import asyncjobs
from tests.kit.environment import environment

STORE = """
from asyncjobs.store.memory import MemoryBackend


class MyBackend(MemoryBackend):
    '''A store of somebody else's, made of ours.'''
"""
FORGETFUL = """

    async def cancel(self, *about):
        return []
"""
TESTS = """
import pytest

from asyncjobs.testing import conformance
from my_store import MyBackend

globals().update(conformance.suite())


@pytest.fixture
def anyio_backend():
    return "asyncio"


@pytest.fixture
def make_backend():
    return lambda settings, now_ms: MyBackend(settings, now_ms=now_ms)
"""
SPOIL = """

from asyncjobs.errors import StoreError
from asyncjobs.testing.conformance.spoiled import BAD, Spoil


class MySpoil(Spoil):
    error = "out of order"

    def __init__(self, backend):
        self.backend = backend

    async def __call__(self, part):
        self.backend.break_queue(BAD, StoreError("this queue is out of order"))

    async def mend(self, part=None):
        self.backend.break_queue(BAD, None)


@pytest.fixture
def spoil(store):
    return MySpoil(store.backend)
"""
ONLY_SPOILED = """
def pytest_collection_modifyitems(items):
    items[:] = [item for item in items if "spoil" in item.fixturenames]
"""


def run_suite(folder: Path, store: str, *args: str, tests: str = TESTS) -> tuple[int, str]:
    """The exit code, and what pytest has said."""
    package = Path(asyncjobs.__file__).parent
    site = folder / "site"
    shutil.copytree(package, site / "asyncjobs", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "my_store.py").write_text(store)
    (folder / "test_my_store.py").write_text(tests)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no:valkey", "-p", "no:asyncio", *args],
        cwd=folder,
        env=environment({"PYTHONPATH": str(site)}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_a_store_of_somebody_else_passes(tmp_path: Path) -> None:
    code, said = run_suite(tmp_path, STORE)
    assert code == 0, said
    passed = re.search(r"(\d+) passed", said)
    assert passed is not None, said
    assert int(passed[1]) > 250
    assert "nothing says how a queue of this store is spoiled" in said


def test_a_store_of_somebody_else_says_how_a_queue_of_it_is_spoiled(tmp_path: Path) -> None:
    # All others have passed without it.
    (tmp_path / "conftest.py").write_text(ONLY_SPOILED)
    code, said = run_suite(tmp_path, STORE, tests=TESTS + SPOIL)
    assert code == 0, said
    assert int(re.findall(r"(\d+) passed", said)[0]) > 50
    assert "nothing says how a queue of this store is spoiled" not in said


def test_a_store_with_a_fault_fails_and_says_what_was_compared(tmp_path: Path) -> None:
    code, said = run_suite(tmp_path, STORE + FORGETFUL, "-k", "cancel", "-x")
    assert code == 1, said
    assert "asyncjobs/testing/conformance/" in said
    assert "assert [] == " in said
