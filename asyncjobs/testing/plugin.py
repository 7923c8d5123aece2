"""The plugin for pytest: fixtures for the tests of programs that use asyncjobs.

It works with the plugins of anyio and pytest-asyncio, and without any: no fixture is async, and
none is used by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from asyncjobs.app import AsyncJobs
    from asyncjobs.testing.clock import VirtualClock
    from asyncjobs.testing.recorder import Recorder
    from asyncjobs.testing.stage import Stage
    from asyncjobs.testing.worker import StageWorker

INI: Final = "asyncjobs_app"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(INI, "The AsyncJobs of the fixture asyncjobs_app: module:attribute.", default="")


@pytest.fixture
def asyncjobs_source(request: pytest.FixtureRequest) -> Any:
    """The app to test: an AsyncJobs, or text such as `shop.jobs:app`. Override it to choose
    another one.

    By default it is what the ini option `asyncjobs_app` says. Without that, it is the only
    AsyncJobs in the modules that have been imported.
    """
    return request.config.getini(INI) or _only_app()


@pytest.fixture
def asyncjobs_stage(asyncjobs_source: Any) -> Iterator[Stage]:
    """The app of the test and all that belongs to it; the other fixtures are its parts."""
    # Only now: a run that tests no jobs pays nothing.
    from asyncjobs.testing.stage import staged

    source = asyncjobs_source
    if isinstance(source, str):
        source = _load(source)
    with staged(source) as stage:
        yield stage


@pytest.fixture
def asyncjobs_app(asyncjobs_stage: Stage) -> AsyncJobs:
    """The app to test. For this test its jobs go to a store of their own, in memory, which is
    open."""
    return asyncjobs_stage.app


@pytest.fixture
def recorder(asyncjobs_stage: Stage) -> Recorder:
    """What has happened to jobs in this test: enqueues, events, results, log lines."""
    return asyncjobs_stage.recorder


@pytest.fixture
def worker(asyncjobs_stage: Stage) -> StageWorker:
    """Runs the jobs of this test: `await worker.drain()`, or `worker.drain_sync()`."""
    return asyncjobs_stage.worker


@pytest.fixture
def clock(asyncjobs_stage: Stage) -> VirtualClock:
    """The time of asyncjobs in this test. It stands still, and moves by `await clock.advance(...)`
    and `clock.leap(...)`."""
    asyncjobs_stage.wall_clock.stop()
    return asyncjobs_stage.clock


def _load(text: str) -> Any:
    module, _, name = text.partition(":")
    if not module or not name:
        raise pytest.UsageError(f"{INI} = {text}: write module:attribute, such as shop.jobs:app")
    found: Any = import_module(module)
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError as error:
            raise pytest.UsageError(f"{INI} = {text}: {error}") from None
    return found


def _only_app() -> AsyncJobs:
    from asyncjobs.app import AsyncJobs

    found: dict[AsyncJobs, str] = {}
    for module_name, module in sorted(sys.modules.items()):
        # Not `getattr`: modules that load lazily would import what nobody has asked for.
        for name, value in list(getattr(module, "__dict__", {}).items()):
            if type(value) is AsyncJobs:
                found.setdefault(value, f"{module_name}:{name}")
    if len(found) == 1:
        return next(iter(found))
    places = ", ".join(found.values()) or "none"
    raise pytest.UsageError(
        f"the fixture asyncjobs_app needs one AsyncJobs, and the imported modules have {places}; "
        f"write `{INI} = shop.jobs:app` into the ini file of pytest, or override the fixture "
        "asyncjobs_source"
    )
