"""A process that is told to stop twice gets two signals that the system keeps apart."""

from __future__ import annotations

import signal
from types import SimpleNamespace

import pytest

from asyncjobs.host.supervisor.child import Child

STOPS = [signal.SIGTERM, signal.SIGINT]


@pytest.mark.parametrize("first", STOPS)
@pytest.mark.parametrize("second", STOPS)
def test_the_second_is_another_one(
    first: int, second: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []
    # Without the process itself.
    child = Child.__new__(Child)
    child.__dict__ |= {"_sent": [], "_process": SimpleNamespace(send_signal=sent.append)}
    monkeypatch.setattr(Child, "was_ready", True)
    monkeypatch.setattr(Child, "is_alive", True)
    child.stop(first, 1)
    child.stop(second, 2)
    # A second one of the same number could be lost while the first one waits.
    assert sent[0] == first
    assert sorted(sent) == sorted(STOPS)
    # It has had as many as it is to have.
    child.stop(second, 2)
    assert len(sent) == 2
