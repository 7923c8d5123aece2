"""The plugin in runs of pytest of their own, each with one plugin for async tests, or none."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.environment import environment

SHOP = """
import os
from asyncjobs import AsyncJobs

app = AsyncJobs("redis://nobody.invalid")

@app.job
async def double(number: int) -> int:
    return 2 * number
"""
ASYNC = """
import pytest
from shop import app, double
from asyncjobs.testing import assert_enqueued, drain, perform

{mark}
async def test_async(asyncjobs_app, recorder, worker, clock):
    assert asyncjobs_app is app
    await double.enqueue(3)
    assert_enqueued(double, args=[3])
    assert (await drain()).succeeded == 1
    assert recorder.results(double) == [6]
    assert (await perform(double, 4)).value == 8
    assert (await clock.advance(days=1)).attempts == 0

{mark}
async def test_no_job_of_another_test_is_seen(recorder, worker):
    recorder.refute_enqueued()
    assert (await worker.drain()).attempts == 0
"""
SYNC = """
from shop import double
from asyncjobs.testing import assert_enqueued, drain_sync

def test_sync(asyncjobs_app, recorder):
    double.enqueue_sync(3)
    assert_enqueued(double, args=[3])
    assert drain_sync().succeeded == 1
    assert recorder.results(double) == [6]
"""

# Without it pytest-asyncio warns.
LOOP = "asyncio_default_fixture_loop_scope = function"


def run(folder: Path, body: str, plugins: list[str], ini: str = "asyncjobs_app = shop:app") -> str:
    """The output of a run of these tests, with only these plugins beside ours."""
    (folder / "shop.py").write_text(SHOP)
    (folder / "test_shop.py").write_text(body)
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = .\nfilterwarnings = error\naddopts = -p no:cacheprovider\n{ini}\n"
    )
    # Without autoload no other plugin that is installed here can help, or be in the way.
    names = ["asyncjobs.testing.plugin", *plugins]
    command = [sys.executable, "-m", "pytest", "-q", *(part for n in names for part in ("-p", n))]
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment({"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("plugins", "mark", "ini"),
    [
        (["anyio.pytest_plugin"], "@pytest.mark.anyio", ""),
        (["pytest_asyncio.plugin"], "@pytest.mark.asyncio", f"{LOOP}\nasyncio_mode = strict"),
        (["pytest_asyncio.plugin"], "", f"{LOOP}\nasyncio_mode = auto"),
    ],
    ids=["anyio", "asyncio-strict", "asyncio-auto"],
)
def test_it_works_with_each_plugin_for_async_tests(
    tmp_path: Path, plugins: list[str], mark: str, ini: str
) -> None:
    only_asyncio = "\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    body = ASYNC.format(mark=mark) + only_asyncio + SYNC
    out = run(tmp_path, body, plugins, f"asyncjobs_app = shop:app\n{ini}")
    assert "3 passed" in out, out


def test_it_works_without_a_plugin_for_async_tests(tmp_path: Path) -> None:
    """And it finds the only app by itself."""
    out = run(tmp_path, SYNC, [], "")
    assert "1 passed" in out, out


def test_an_app_that_is_not_found_is_named(tmp_path: Path) -> None:
    out = run(tmp_path, SYNC, [], "asyncjobs_app = shop:nothing")
    assert "asyncjobs_app = shop:nothing: module 'shop' has no attribute 'nothing'" in out
    two = SYNC + "\nfrom asyncjobs import AsyncJobs\nother = AsyncJobs()\n"
    out = run(tmp_path, two, [], "")
    assert "needs one AsyncJobs, and the imported modules have shop:app, test_shop:other" in out


def test_a_start_of_pytest_imports_no_worker() -> None:
    look = (
        "import sys, asyncjobs.testing.plugin;"
        "heavy = ('asyncjobs.worker', 'asyncjobs.testing.');"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['asyncjobs.testing.plugin']"
