"""Comparing with other queues: what can be said without installing them."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import compare
from benchmarks.peers.kit import SHAPES


@pytest.mark.parametrize("name", compare.PEERS)
def test_a_peer_is_pinned_and_says_its_settings(name: str) -> None:
    peer = compare.PEERS[name]
    assert all(re.fullmatch(r"[a-z_-]+(\[[a-z]+\])?==[\d.]+", pin) for pin in peer.pins)
    assert any(pin.startswith(name) for pin in peer.pins)
    assert "uvloop" in "".join(peer.pins)
    assert peer.settings
    assert find_spec(f"benchmarks.peers.{peer.module}") is not None


def test_no_program_of_a_peer_is_left_out() -> None:
    folder = Path(compare.__file__).parent / "peers"
    programs = {file.stem for file in folder.glob("peer_*.py")}
    assert programs == {peer.module for peer in compare.PEERS.values()}


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"no program for the peer 'sidekiq'; there are arq, "):
        program.main(["compare", "--peers", "sidekiq"])


def test_ratios_are_those_of_each_round() -> None:
    # arq has failed in the first round.
    rates = {
        ("noop", "off", "asyncjobs"): {0: 1000.0, 1: 100.0, 2: 300.0},
        ("noop", "off", "arq"): {1: 10.0, 2: 20.0},
    }
    ratios = [record for record in compare._records(rates) if record.unit == "times"]
    assert [(record.subject, record.values) for record in ratios] == [("arq", (10.0, 15.0))]


@pytest.mark.parametrize("shape", SHAPES)
def test_ours_is_measured_by_the_program_of_the_peers(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "OUR_JOBS", 400)
    rate = compare._run(compare.OURS, shape, "off", "valkey")
    assert isinstance(rate, float), rate
