"""Jobs whose function no worker has: the log names what is near, commands say that they wait."""

from __future__ import annotations

import json
from pathlib import Path

from asyncjobs.testing.servers import Server
from tests.cli.conftest import Put, Start
from tests.cli.operator import operate
from tests.cli.process import Ledger
from tests.cli.test_jobs import add, show
from tests.kit.waiting import ticks

SHOP = """
from asyncjobs import AsyncJobs

app = AsyncJobs()


@app.job(name="shop.tasks.nap")
async def nap(seconds: float) -> None: ...


@app.job(name="nowhere.else")
async def other() -> None: ...
"""


def test_a_function_that_nobody_has(folder: Path, server: Server, run: Start, work: Start) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    (folder / "shop.py").write_text(SHOP)
    job = add(folder, env, "shop:app", "shop.tasks.nap", "--args", "[0]")
    add(folder, env, "shop:app", "nowhere.else")
    worker = work("--queues", "default")
    text = worker.wait_for("nowhere.else")
    assert "no job function 'shop.tasks.nap' here, but 'tasks.nap': start" in worker.wait_for(
        "'tasks.nap'"
    )
    (foreign,) = [part for part in text.splitlines() if "'nowhere.else' here" in part]
    assert ", but" not in foreign
    for _ in ticks():
        fields = show(folder, env, job, "--json").json()
        if fields["put_back"] is not None and fields["state"] == "scheduled":
            break
    assert fields["put_back"]["times"] >= 1
    assert fields["put_back"]["since"] >= fields["enqueued_at"]
    told = show(folder, env, job).row("put back")[1]
    assert "the workers that took it do not have its function" in told
    for _ in ticks():
        found = operate(folder, "check", "--json", env=env)
        (warning,) = json.loads(found.out)["warnings"] or [""]
        if "2 jobs" in warning:
            break
    assert found.code == 0
    assert "queue 'default': workers put back at least 2 jobs" in warning
    assert "nowhere.else (1)" in warning
    assert "shop.tasks.nap (1)" in warning


def test_a_running_job_names_its_worker(
    folder: Path, server: Server, work: Start, put: Put, ledger: Ledger
) -> None:
    env = {"ASYNCJOBS_URL": server.url}
    (job_id,) = put("nap", 60.0)
    work("--name", "left-hand", "--grace", "0s")
    ledger.wait_for_running(1)
    fields = show(folder, env, job_id, "--json").json()
    assert (fields["worker"], fields["state"]) == ("left-hand", "running")
    assert fields["lease"] not in (None, "left-hand")
    assert fields["started_at"] >= fields["enqueued_at"]
    assert fields["is_cancelled"] is False
    done = show(folder, env, job_id)
    assert done.row("worker") == ["worker", "left-hand"]
    assert done.row("started")[1].endswith("+00:00")
    assert done.row("state") == ["state", "running"]
