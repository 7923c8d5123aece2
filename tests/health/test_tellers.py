"""What tells the condition: the vitals themselves, systemd, a file, the thread that reports."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncjobs.errors import ConfigError
from asyncjobs.host.health.condition import Condition, Vitals
from asyncjobs.host.health.file import HealthFile
from asyncjobs.host.health.reporter import Reporter
from asyncjobs.host.health.systemd import Systemd
from asyncjobs.host.pulse import Pulse
from tests.health.kit import Listener

LIMIT_S = 20.0
STARTING = Condition(ready=("not yet",), started=("not yet",))
BLOCKED = Condition(live=("blocked, 1 s",), ready=("blocked, 1 s",))


@pytest.mark.anyio
async def test_vitals_see_a_pulse_that_is_too_old() -> None:
    pulse = Pulse(1.0)
    reasons: list[str | None] = [None]
    vitals = Vitals(pulse, "first", lambda: reasons[0], lambda: False, 10.0)
    assert vitals.look().started == ("the worker has not registered yet",)
    vitals.has_started = True
    assert vitals.look() == Condition(facts={"worker": "first"})
    pulse.mark_s = time.monotonic() - 10.0
    seen = vitals.look()
    assert seen.live == seen.ready
    assert "blocked, for 10." in seen.live[0]
    pulse.mark_s = time.monotonic()
    reasons[0] = "away"
    assert (vitals.look().live, vitals.look().ready) == ((), ("away",))


def test_systemd_is_told_each_thing_once(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    with Listener(address) as heard:
        systemd = Systemd(address, watchdog_s=30.0)
        for seen in (STARTING, Condition(), Condition(), BLOCKED, Condition(stopping=True)):
            systemd.tell(seen)
        systemd.close()
        heard.wait_for("STOPPING=1")
    assert heard.lines == [
        *("STATUS=not yet", "WATCHDOG=1"),
        *("READY=1", "STATUS=taking jobs", "WATCHDOG=1"),
        "WATCHDOG=1",
        "STATUS=the event loop is blocked",
        *("STOPPING=1", "STATUS=stopping", "WATCHDOG=1"),
    ]


def test_what_systemd_could_not_hear_is_said_again(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    systemd = Systemd(address, watchdog_s=None)
    with pytest.raises(OSError, match="No such file"):
        systemd.tell(Condition())
    with Listener(address) as heard:
        systemd.tell(Condition())
        heard.wait_for("READY=1")
        systemd.close()
        heard.wait_for("STOPPING=1")


def test_systemds_variables_are_taken_once() -> None:
    environment = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}
    for pid, watchdog_s in ((7, 30.0), (8, None)):
        mine = dict(environment)
        systemd = Systemd.take(mine, pid)
        assert systemd is not None
        assert (systemd.watchdog_s, mine) == (watchdog_s, {})
        systemd._socket.close()


@pytest.mark.parametrize("address", ["", "vsock:2:1234"])
def test_without_a_socket_of_this_machine_there_is_no_systemd(address: str) -> None:
    assert Systemd.take({"NOTIFY_SOCKET": address}, os.getpid()) is None


@pytest.mark.parametrize("usec", ["", "0", "soon", "-1"])
def test_a_watchdog_that_is_off(usec: str) -> None:
    systemd = Systemd.take({"NOTIFY_SOCKET": "@x", "WATCHDOG_USEC": usec}, os.getpid())
    assert systemd is not None
    assert systemd.watchdog_s is None
    systemd._socket.close()


def test_the_file_stays_as_it_is_while_blocked(tmp_path: Path) -> None:
    path = tmp_path / "health"
    file = HealthFile(path)
    file.tell(Condition())
    before = path.stat().st_ino, path.read_bytes()
    file.tell(BLOCKED)
    assert (path.stat().st_ino, path.read_bytes()) == before
    file.close()
    file.close()
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--health-file .*none/health' cannot be written"):
        HealthFile(tmp_path / "none" / "health")


class Failing:
    """Fails as long as it is told to."""

    def __init__(self) -> None:
        self.is_failing = True
        self.told = threading.Semaphore(0)
        self.is_closed = False

    def tell(self, condition: Condition) -> None:
        self.told.release()
        if self.is_failing:
            raise OSError("planted")

    def close(self) -> None:
        self.is_closed = True


def wait(teller: Failing, times: int, wake: Callable[[], None]) -> None:
    for _ in range(times):
        wake()
        assert teller.told.acquire(timeout=LIMIT_S)


def test_one_that_fails_is_reported_once_and_holds_up_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bad, good = Failing(), Failing()
    good.is_failing = False
    reporter = Reporter(Condition, [bad, good], 0.01)
    reporter.start()
    wait(good, 5, reporter.wake)
    reporter.stop()
    complaints = [record.getMessage() for record in caplog.records]
    assert complaints == ["Failing cannot report the health, trying again: planted"]
    assert (bad.is_closed, good.is_closed) == (True, True)


def test_a_wake_does_not_wait_for_the_next_report() -> None:
    teller = Failing()
    teller.is_failing = False
    reporter = Reporter(Condition, [teller], 3600)
    reporter.start()
    wait(teller, 3, reporter.wake)
    reporter.stop()
