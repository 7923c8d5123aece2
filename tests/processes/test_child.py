"""The handshake of parent and child, and when a failing one is started again."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator

import anyio
import pytest

from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor.child import Child
from asyncjobs.host.supervisor.link import VARIABLE, ParentLink, link_text
from asyncjobs.host.supervisor.patience import Patience

Start = Callable[[str], Child]

SAY = """
import os, signal, sys
_, ready, life = map(int, os.environ["ASYNCJOBS_SUPERVISED"].split(":"))
"""


@pytest.fixture
def life() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


@pytest.fixture
def start(life: tuple[int, int]) -> Start:
    return lambda program: Child([sys.executable, "-c", SAY + program], 3, life[0])


@pytest.mark.anyio
async def test_ready_is_one_whole_line_in_however_many_pieces(start: Start) -> None:
    child = start(
        "os.write(ready, b'{\"a\": \"' + b'x' * 100_000)\n"
        "os.write(ready, b'\"}\\n')\n"
        "os.read(life, 1)\n"
    )
    with anyio.fail_after(20):
        assert await child.ready == {"a": "x" * 100_000}
        assert child.is_alive
        child.stop(signal.SIGINT)
        child.stop(signal.SIGINT)  # the same one again, not a second
        assert await child.ended in (-signal.SIGINT, 1)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("program", "code", "epitaph"),
    [
        ("sys.exit(2)", 2, "ended with exit code 2"),
        ("os.write(ready, b'{\"half\"'); os._exit(0)", 0, "ended with exit code 0"),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, "was killed by SIGKILL"),
    ],
)
async def test_an_end_before_ready(start: Start, program: str, code: int, epitaph: str) -> None:
    child = start(program)
    with anyio.fail_after(20):
        assert await child.ready is None
        assert await child.ended == code
    assert (child.epitaph(), child.verdict()) == (epitaph, ExitCode.FAILED)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (0, ExitCode.CLEAN),
        (1, ExitCode.FAILED),
        (2, ExitCode.FAILED),
        (4, ExitCode.RELEASED),
        (7, ExitCode.FAILED),
    ],
)
async def test_ready_and_gone_at_once_is_seen_as_both(
    start: Start, code: int, verdict: ExitCode
) -> None:
    child = start(f"os.write(ready, b'{{}}\\n'); os._exit({code})")
    with anyio.fail_after(20):
        assert await child.ready == {}
        assert await child.ended == code
    assert child.verdict() is verdict


@pytest.mark.anyio
async def test_told_to_stop_before_ready_is_clean(start: Start) -> None:
    child = start("os.read(life, 1)")
    child.stop(signal.SIGINT)
    with anyio.fail_after(20):
        assert await child.ended == -signal.SIGTERM
    assert child.verdict() is ExitCode.CLEAN


def test_the_link_is_taken_once_and_not_passed_to_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (life, parents_life), (parents_ready, ready) = os.pipe(), os.pipe()
    os.set_inheritable(life, True)
    os.set_inheritable(ready, True)
    monkeypatch.setenv(VARIABLE, link_text(2, ready, life))
    link = ParentLink.take()
    assert link is not None
    assert (link.number, os.environ.get(VARIABLE), ParentLink.take()) == (2, None, None)
    assert (os.get_inheritable(life), os.get_inheritable(ready)) == (False, False)
    link.say_ready({"queues": ["mail"]})
    assert os.read(parents_ready, 100) == b'{"queues":["mail"]}\n'
    assert os.read(parents_ready, 1) == b""
    os.close(parents_ready)
    os.close(parents_life)
    os.close(life)


def test_the_delay_doubles_to_its_cap_and_is_never_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    patience = Patience(base_s=0.5, cap_s=15)
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    longest = [patience.delay_s(n) for n in (1, 2, 3, 5, 6, 5000)]
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    shortest = [patience.delay_s(n) for n in (1, 2, 6)]
    assert longest == [0.5, 1, 2, 8, 15, 15]
    assert shortest == [0.25, 0.5, 7.5]


def test_a_long_life_ends_the_row() -> None:
    patience = Patience(steady_s=30)
    assert [patience.failures(7, ready_s) for ready_s in (0, 29.9, 30)] == [8, 8, 1]


@pytest.mark.anyio
async def test_a_terminal_reaches_a_child_by_its_parent_alone(start: Start) -> None:
    # In the parent's group Ctrl-C would come twice, and the second time releases jobs.
    child = start("os.write(ready, b'{}' + bytes([10]))\nos.read(life, 1)\n")
    with anyio.fail_after(20):
        assert await child.ready == {}
        assert os.getpgid(child.pid) != os.getpgid(0)
        child.kill()
        await child.ended
