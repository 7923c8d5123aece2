"""What all tests share: one event loop, real servers, no blocking call on the loop."""

from __future__ import annotations

import random
import signal
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from blockbuster import blockbuster_ctx
from hypothesis import core, settings

from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server
from tests.audit.after import Auditor
from tests.kit.later import later
from tests.kit.order import in_order

settings.register_profile("asyncjobs", print_blob=True, deadline=None)
settings.load_profile("asyncjobs")


_auditor = Auditor()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "unaudited(reason): what the test leaves is wrong on purpose"
    )
    _handle_signals_again()
    # A seed that is printed makes any failure of a random test repeatable.
    if core.global_force_seed is None:
        given = getattr(config, "workerinput", {}).get("hypothesis_seed")
        core.global_force_seed = given or random.getrandbits(32)


def _handle_signals_again() -> None:
    """Undo what a shell does to a command in the background: it ignores SIGINT, nohup SIGHUP.

    Programs under test would inherit that, and never end by the signal that a test sends.
    """
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            own = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, own)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Each process of the run draws by the seed that is printed."""
    node.workerinput["hypothesis_seed"] = core.global_force_seed


def pytest_report_header(config: pytest.Config) -> list[str]:
    servers = ", ".join(available_servers()) or "none"
    return [f"servers: {servers}", f"--hypothesis-seed={core.global_force_seed}"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what waits for `make test-rest`, before pytest looks at the marks, and put the files
    in order."""
    for item in items:
        mark = later(item)
        if mark is not None:
            item.add_marker(mark)
    items[:] = in_order(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None]:
    _auditor.begin()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None]:
    """Fails a test that leaves a store in a state that no store may be in.

    A hook, not a fixture: it looks before the first fixture cleans up.
    """
    try:
        found = _auditor.end(item)
    except Exception as error:
        found = [f"the audit failed: {error!r}"]  # the fixtures have to be torn down all the same
    result = yield
    if found:
        pytest.fail("\n".join(["keys that may not be there:", *found]), pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Output with half of a character in it cannot be sent by the process that ran the test."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Tests run on asyncio; Trio is not supported."""
    return "asyncio"


class Servers:
    """The servers of this run, each started when it is first asked for."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._running: dict[ServerKind, Server] = {}

    def get(self, kind: ServerKind) -> Server:
        """The running server; skips the test where there is none of this kind."""
        if kind not in self._running:
            if kind not in available_servers():
                pytest.skip(f"no {kind} server on this machine")
            self._running[kind] = self._stack.enter_context(start_server(kind))
        return self._running[kind]


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Real servers on loopback, shared by all tests: use a key prefix of your own."""
    with ExitStack() as stack:
        yield Servers(stack)


@pytest.fixture(autouse=True)
def _no_blocking_on_the_loop() -> Iterator[None]:
    """A call in the package that blocks the event loop fails the test."""
    # Starting a server blocks on purpose and says so.
    with blockbuster_ctx("asyncjobs", excluded_modules=["asyncjobs.testing"]):
        yield
