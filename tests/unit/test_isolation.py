"""Which isolation a job function has, and how many processes run at a time."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs, ConfigError, RegistrationError, Worker
from asyncjobs.cli.shared.loading import load_app
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.worker.engine.places import Places
from asyncjobs.worker.engine.processes.cores import available_cores
from asyncjobs.worker.engine.processes.origin import find_functions, origin_of, read_origin


def plain() -> None: ...


async def waits() -> None: ...


def registered(function: Any, **options: Any) -> Any:
    return AsyncJobs("memory:").job(**options)(function)


def test_by_default_an_async_function_is_on_the_loop_and_a_sync_one_in_a_thread() -> None:
    assert registered(waits).isolation is Isolation.LOOP
    assert registered(plain).isolation is Isolation.THREAD
    assert registered(waits, isolation=None).isolation is Isolation.LOOP


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_both_kinds_may_have_processes() -> None:
    for function in (plain, waits):
        job = registered(function, isolation="process", max_memory="512MiB")
        assert job.isolation is Isolation.PROCESS
        assert job.settings.max_memory == 512 << 20
        assert job.is_async is (function is waits)


@pytest.mark.parametrize(
    ("function", "options", "said"),
    [
        (waits, {"isolation": "thread"}, "is async, and isolation='thread' is for sync"),
        (plain, {"isolation": "loop"}, "is sync and would block the event loop"),
        (plain, {"isolation": "fork"}, "must be one of loop, thread, process, not 'fork'"),
        (plain, {"max_memory": "512MiB"}, "max_memory is a limit of a process"),
        (plain, {"isolation": "process", "max_memory": "many"}, "max_memory='many' is not a size"),
        (plain, {"isolation": "process", "max_memory": 1000}, "too little to run anything"),
        (plain, {"isolation": "process", "max_memory": True}, "must be a whole number"),
    ],
)
def test_what_does_not_go_together_is_refused(
    function: Any, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        registered(function, **options)
    assert said in str(caught.value)


def test_without_fork_the_registration_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "fork", raising=False)
    with pytest.raises(RegistrationError, match="needs a POSIX system"):
        registered(plain, isolation="process")


def test_a_worker_names_a_wrong_number_of_processes() -> None:
    with pytest.raises(ConfigError, match="job_processes must be a whole number"):
        Worker(AsyncJobs("memory:"), job_processes=0)


@pytest.mark.parametrize(
    ("files", "most"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "100000 100000\n"}, 1),
        ({"cpu.max": "nonsense"}, None),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "20000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({}, None),
    ],
)
def test_a_limit_of_the_container_counts(
    tmp_path: Path, files: dict[str, str], most: int | None
) -> None:
    (tmp_path / "cpu").mkdir()
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    here = available_cores(tmp_path / "no such folder")
    expected = here if most is None else min(here, most)
    assert available_cores(tmp_path) == expected


async def two_taken() -> tuple[dict[str, int], dict[str, int]]:
    places = Places(2, {"only": True, "mixed": False})
    await places.acquire()
    before = places.most(0)
    await places.acquire()
    return before, places.most(1)


def test_jobs_beyond_the_places_stay_in_the_store() -> None:
    before, after = asyncio.run(two_taken())
    assert before == {"only": 1}
    # A mixed queue is closed only while jobs wait for a place already.
    assert after == {"only": 0, "mixed": 0}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_process_has_the_app_of_a_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made_shop.py").write_text(
        "from contextvars import ContextVar\n"
        "from asyncjobs import AsyncJobs\n"
        "tenant = ContextVar('tenant')\n"
        "def work(secret): ...\n"
        "def make():\n"
        "    app = AsyncJobs('memory:', redact=['secret'])\n"
        "    app.carry(tenant)\n"
        "    app.job(isolation='process')(work)\n"
        "    return app\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    app = load_app("made_shop:make", factory=True)
    origin = origin_of(app, app.registry)
    assert origin.app == ("made_shop", "make")
    found, missing = find_functions(read_origin(origin.functions, origin.app))
    assert missing == {}
    function = found["made_shop.work"]
    assert [each.name for each in function.carried] == ["tenant"]
    assert function.settings is not None
    assert function.redaction.hides("secret")
