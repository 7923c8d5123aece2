"""`python -m benchmarks`: what it lists, refuses and writes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from asyncjobs.testing.servers import start_server
from benchmarks import __main__ as program
from benchmarks import _rounds, fleet, load, takeover
from benchmarks.asking import Asking
from benchmarks.records import Record, markdown, write
from benchmarks.shapes import SHAPES
from benchmarks.sizes import JOBS, in_words

RECORD = Record("pickup", "asyncjobs", "p50", "ms", "off", (3.0, 1.0, 2.0))


def test_every_shape_is_listed_with_a_word_of_what_it_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(SHAPES)
    assert all(len(line.split()) > 3 for line in lines)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "nothing"], "no shape 'nothing'; choose from enqueue, "),
        (["run", "--fsync", "sometimes"], "--fsync 'sometimes' is not one of off, everysec"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message):
        program.main(arguments)


def test_one_shape_is_measured_on_a_server_of_its_own(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert program.main(["run", "--quick", "bulk"]) == 0
    assert "| bulk | asyncjobs | off | enqueue_many, jobs/s |" in capsys.readouterr().out


def test_a_record_is_its_median_and_its_range() -> None:
    text = markdown([RECORD], {"rounds": 3})
    assert "| pickup | asyncjobs | off | p50, ms | 2 | 1 to 3 |" in text
    assert text.endswith("- rounds: 3\n")


def test_results_are_written_for_programs_and_for_people(tmp_path: Path) -> None:
    as_json, as_text = write([RECORD], {"rounds": 3}, tmp_path / "new", "figures")
    content = json.loads(as_json.read_text())
    assert content["facts"] == {"rounds": 3}
    assert content["records"][0]["median"] == 2.0
    assert content["records"][0]["values"] == [3.0, 1.0, 2.0]
    assert as_text.read_text() == markdown([RECORD], {"rounds": 3})


def test_every_shape_says_how_many_jobs_it_has() -> None:
    assert list(JOBS) == list(SHAPES)
    assert in_words("reclaim", 0.01) == "100"
    assert in_words("backlog", 1) == "10,000 / 1,000,000"
    assert in_words("idle", 1) == "0"


def test_figures_name_what_they_were_measured_with() -> None:
    options = program._parser().parse_args(["run", "bulk", "--fsync", "off,everysec"])
    facts = program._facts(options)
    assert re.fullmatch(r"[0-9a-f]{7,}( \+ changes)?|unknown, .*", facts["commit"])
    assert facts["append-only file off"].startswith("appendonly no, appendfsync ")
    assert facts["append-only file everysec"] == "appendonly yes, appendfsync everysec"
    assert facts["jobs"] == "bulk 100,000"


def test_a_checkout_without_git_has_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert _rounds.commit() == "unknown, for this is no checkout"


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_a_stopped_worker_stands_still_with_its_children() -> None:
    # The parent says the number of its child and waits for it, as a supervisor does.
    child = "import sys; print('here', flush=True); sys.stdin.read()"
    parent = (
        "import subprocess, sys; child = subprocess.Popen("
        f"[sys.executable, '-c', {child!r}]); print(child.pid, flush=True); child.wait()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        # Two processes write to one pipe: either may be first.
        said = {process.stdout.readline().strip(), process.stdout.readline().strip()}
        (pid,) = (int(word) for word in said - {"here"})
        with fleet.stopped(process):
            states = _state(process.pid), _state(pid)
        assert states == ("T", "T")
        assert "T" not in (_state(process.pid), _state(pid))
        process.stdin.close()
    assert process.returncode == 0


def test_a_load_beside_says_what_it_has_sent() -> None:
    with start_server("valkey") as server:
        with load.beside(server.url, "bench", 1_000) as other:
            assert Asking(server.url).number("stats", "total_connections_received") > 0
        assert other.rate > 0


def test_jobs_of_a_dead_worker_are_timed_until_they_have_run_again() -> None:
    with start_server("valkey") as server:
        found = takeover.measure(server.url, jobs=10, lease="2s", seconds=0.0)
    assert found.first_began <= found.last_began <= found.last_ended
    assert (found.charged, found.most_crashes, found.dead) == (10, 1, 0)


def test_jobs_of_a_worker_that_was_told_to_end_are_charged_with_nothing() -> None:
    with start_server("valkey") as server:
        found = takeover.measure(
            server.url, jobs=10, lease="2s", seconds=0.0, end="stopped", queues=2
        )
    assert (found.charged, found.most_crashes, found.dead) == (0, 0, 0)


def test_an_emptied_server_has_nothing_left_to_free() -> None:
    with start_server("valkey") as server:
        # More than a server frees at once by itself.
        server.command("HSET", "many", *(str(number) for number in range(2_000)))
        asking = Asking(server.url)
        asking.flush()
        assert asking.number("memory", "lazyfreed_objects") == 0
        assert server.command("DBSIZE") == 0
