"""One function registered a second time under its name is refused; a reload is not."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobRegistry
from asyncjobs.errors import RegistrationError


async def send() -> None: ...


def traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    async def call(*args: Any, **kwargs: Any) -> Any:
        return await function(*args, **kwargs)

    return call


def test_the_options_of_the_first_one_stand() -> None:
    app = AsyncJobs("memory:")
    job = app.job(queue="mail", timeout=5)(send)
    for register in (app.job, app.job(queue="other"), app.job(timeout=60)):
        for again in (job.function, traced(send)):
            with pytest.raises(RegistrationError, match=r"a job function already.*f\.options"):
                register(again)
    assert app.registry.find(job.name) is job
    assert (job.settings.queue, job.settings.timeout_s) == ("mail", 5)


def test_also_where_registries_meet() -> None:
    app, registry = AsyncJobs("memory:"), JobRegistry()
    job = app.job(queue="mail")(send)
    registry.job(send)
    with pytest.raises(RegistrationError, match="a job function already"):
        app.include(registry)
    assert app.registry.find(job.name) is job


def test_another_name_makes_a_second_job_function() -> None:
    app = AsyncJobs("memory:")
    first, second = app.job(send), app.job(name="later", queue="slow")(send)
    assert app.registry.functions() == [first, second]


def test_a_reload_takes_the_place_of_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "the_app.py").write_text("from asyncjobs import AsyncJobs\napp = AsyncJobs()\n")
    (tmp_path / "the_jobs.py").write_text(
        "from the_app import app\n\n\n@app.job\nasync def send() -> None: ...\n"
    )
    module = importlib.import_module("the_jobs")
    before = module.send
    importlib.reload(module)
    assert module.send is not before
    assert module.app.registry.functions() == [module.send]
    for name in ("the_app", "the_jobs"):
        del sys.modules[name]
