"""A short run keeps every promise, and what judges it would notice if one were broken."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome
from asyncjobs.model.refs import JobRef
from asyncjobs.testing.servers import available_servers
from tests.chaos.faults import A_MINUTE, Fault, schedule
from tests.chaos.jobs import Planned, nap, plan
from tests.chaos.ledger import Execution
from tests.chaos.rules import Paused
from tests.chaos.verdict import Evidence, Verdict, judge

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 240.0


def start(tmp_path: Path, *args: str) -> subprocess.Popen[str]:
    if not available_servers():
        # The wheel has no server for Alpine and Windows, and redis-server is no requirement.
        pytest.skip("no server on this machine")
    return subprocess.Popen(
        [sys.executable, "-m", "tests.chaos", "--server", available_servers()[0], *args],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONWARNINGS": "error"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_ten_seconds_of_chaos_break_no_promise(tmp_path: Path) -> None:
    with start(tmp_path, "--seconds", "10") as run:
        output, _ = run.communicate(timeout=LIMIT_S)
    print(output)
    assert run.returncode == 0, output
    assert output.startswith("seed ")
    assert "lost: 0, outcomes twice: 0, dead as crashed: 0" in output
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_run_leaves_nothing(tmp_path: Path) -> None:
    with start(tmp_path, "--seconds", "60") as run:
        assert run.stdout is not None
        lines = [run.stdout.readline()]
        while "  kill: worker" not in lines[-1]:
            assert lines[-1], lines
            lines.append(run.stdout.readline())
        run.send_signal(signal.SIGINT)
        output, _ = run.communicate(timeout=LIMIT_S)
    assert run.returncode == 130, output
    assert "Traceback" not in output
    assert list(tmp_path.iterdir()) == []


def test_a_seed_decides_faults_and_jobs() -> None:
    one, two = (schedule(random.Random(7), 60) for _ in range(2))
    assert one == two
    assert {kind: sum(s.kind == kind for s in one) for kind in A_MINUTE} == A_MINUTE
    assert {step.kind for step in schedule(random.Random(7), 1)} == A_MINUTE.keys()
    jobs, again = ([plan(random.Random(n), n) for n in range(50)] for _ in range(2))
    assert [str(job.call) for job in jobs] == [str(job.call) for job in again]


# -- the judge ----------------------------------------------------------------------------


def ended(state: State, **fields: Any) -> JobRecord:
    return JobRecord(JobRef("default", "j"), state, outcome=Outcome(state, **fields).encode())


def ran(run: str, start_s: float, how: str = "returned", *, pid: int = 1, n: int = 1) -> Execution:
    end_s = start_s + 1 if how else float("inf")
    return Execution(run, "j", n, 0, pid, start_s, end_s, how)


def judged(
    record: JobRecord | None,
    *runs: Execution,
    faults: list[Fault] | None = None,
    budget: int = 3,
    ends: State = State.SUCCEEDED,
    **more: Any,
) -> Verdict:
    planned = {"j": Planned("j", "default", nap.bind(0), budget, frozenset({ends}))}
    return judge(Evidence(planned, runs, faults or [], {"j": record}, **more))


DONE = ended(State.SUCCEEDED, value="a", attempt=1)
SENT = {"e": 1, "s": 1}


def test_a_run_that_went_well() -> None:
    told = {"j": (State.SUCCEEDED, "a")}
    verdict = judged(DONE, ran("a", 1), seen={"j": DONE.outcome}, heard=told, counted=SENT)
    assert verdict == Verdict()


@pytest.mark.parametrize("record", [None, DONE._replace(state=State.READY, outcome=None)])
def test_a_lost_job(record: JobRecord | None) -> None:
    verdict = judged(record, ran("a", 1))
    assert verdict.lost == 1
    assert "lost" in verdict.violations[0]
    assert "run a on 1: started at 1.000 returned at 2.000" in verdict.violations[0]


def test_a_result_of_nobody() -> None:
    assert "of no execution" in judged(DONE, ran("b", 1)).violations[0]
    assert "of no execution" in judged(DONE, ran("a", 1, "stopped")).violations[0]
    dead = ended(State.DEAD, attempt=2)
    verdict = judged(dead, ran("a", 1, "raised"), ends=State.DEAD)
    assert "has not raised" in verdict.violations[0]
    assert "unexpected" in judged(dead, ran("a", 1, "raised")).violations[0]


def test_attempts_over_the_budget_or_left_out() -> None:
    runs = [ran("b", 1, "raised"), ran("a", 3, n=2)]
    assert judged(DONE, *runs).violations == []
    assert "attempt 2 of 1" in judged(DONE, *runs, budget=1).violations[0]
    assert "attempts [2]" in judged(DONE, runs[1]).violations[0]


@pytest.mark.parametrize(
    ("fault", "is_excuse"),
    [
        (Fault("kill", 1.5, 1, 1.5), True),
        (Fault("half-open", 0.8, 1, 7), True),
        (Fault("store", 4, None, 5), False),
        (Fault("cut", 4, 1, 4), False),
        (Fault("stop", 0.2, 1, 0.7), True),  # taken before, started after
        (Fault("kill", 0.2, 1, 0.3), False),
        (Fault("kill", 9.5, 1, 9.5), False),
        (Fault("kill", 1.5, 3, 1.5), False),
    ],
)
def test_a_second_execution_needs_an_excuse(fault: Fault, is_excuse: bool) -> None:
    verdict = judged(DONE, ran("b", 1, ""), ran("a", 8, pid=2), faults=[fault])
    assert (verdict.unexcused, verdict.repeats.total()) == ((0, 1) if is_excuse else (1, 0))
    assert (verdict.violations == []) is is_excuse


def test_a_late_starter_is_the_one_to_be_excused() -> None:
    fault = Fault("long stop", 0.5, 2, 3.8)
    assert judged(DONE, ran("a", 1), ran("b", 4, pid=2), faults=[fault]).violations == []


def test_each_repeat_needs_an_excuse_of_its_own() -> None:
    runs = [ran("b", 1, ""), ran("c", 3, pid=2), ran("a", 8, pid=3)]
    verdict = judged(DONE, *runs, faults=[Fault("kill", 1.5, 1, 1.5)])
    assert verdict.unexcused == 1


def test_an_outcome_recorded_twice() -> None:
    before = ended(State.SUCCEEDED, value="b").outcome
    assert judged(DONE, ran("a", 1), seen={"j": before}).recorded_twice == 1
    assert judged(DONE, ran("a", 1), counted={"e": 1, "s": 2}).recorded_twice == 1
    assert judged(DONE, ran("a", 1), counted={"e": 2, "s": 1}).violations != []
    told: dict[str, Any] = {"j": (State.SUCCEEDED, "b")}
    assert "was told 'b'" in judged(DONE, ran("a", 1), heard=told).violations[0]


def test_an_execution_of_nothing() -> None:
    stray = Execution("x", "k", 1, 0, 1, 1.0)
    assert judged(DONE, ran("a", 1), stray).violations == ["k: was executed, and never enqueued"]


# -- pauses, keys and ticks ----------------------------------------------------------------

PAUSED = Paused("default", nap.name, from_s=0, to_s=5)


@pytest.mark.parametrize(
    ("paused", "fault", "violations"),
    [
        (PAUSED, None, 1),
        (Paused("default", None, from_s=0, to_s=5), None, 1),
        # What was taken before may still start; and what does not stop it.
        (Paused("default", nap.name, from_s=1.5, to_s=5), None, 0),
        (Paused("default", nap.name, from_s=0, to_s=1.5), None, 0),
        (Paused("default", "flaky", from_s=0, to_s=5), None, 0),
        (Paused("other", None, from_s=0, to_s=5), None, 0),
        (PAUSED, Fault("long stop", 0, 1, 2), 0),
    ],
)
def test_a_start_although_it_is_paused(
    paused: Paused, fault: Fault | None, violations: int
) -> None:
    verdict = judged(DONE, ran("a", 2), faults=[fault] if fault else [], paused=[paused])
    assert len(verdict.violations) == violations


def of_one_key(*runs: Execution, faults: Sequence[Fault] = ()) -> list[str]:
    planned = {
        id: Planned(id, "default", nap.bind(0), 3, frozenset({State.SUCCEEDED}), key="k")
        for id in ("j", "i")
    }
    records = {
        id: JobRecord(
            JobRef("default", id),
            State.SUCCEEDED,
            outcome=Outcome(
                State.SUCCEEDED,
                value=[run for run in runs if run.job == id][-1].run,
                attempt=1,
            ).encode(),
        )
        for id in planned
    }
    return judge(Evidence(planned, runs, faults, records)).violations


def test_jobs_of_one_key_run_one_after_the_other() -> None:
    assert of_one_key(ran("a", 1), replace(ran("b", 2), job="i")) == []


def test_jobs_of_one_key_run_beside_each_other() -> None:
    (wrong,) = of_one_key(ran("a", 1), replace(ran("b", 1.5), job="i"))
    assert "j holds the key 'k'" in wrong


def test_a_job_of_the_key_between_two_attempts() -> None:
    between = replace(ran("b", 2.5, pid=2), job="i")
    (wrong,) = of_one_key(ran("a", 1, "raised"), between, ran("c", 4, n=2))
    assert "j holds the key 'k'" in wrong


def test_a_job_of_the_key_beside_one_whose_lease_was_lost() -> None:
    runs = (ran("a", 1), replace(ran("b", 1.5, pid=2), job="i"))
    assert of_one_key(*runs, faults=[Fault("long stop", 1, 1, 2)]) == []


def test_each_tick_runs() -> None:
    tick = replace(ran("t", 3), job="cron:tick:1000")
    assert judged(DONE, ran("a", 1), tick, ticks=[tick.job]) == Verdict()
    verdict = judged(DONE, ran("a", 1), ticks=[tick.job])
    assert "this tick has never run" in verdict.violations[0]
    assert "never enqueued" in judged(DONE, ran("a", 1), tick).violations[0]
    twice = judged(DONE, ran("a", 1), tick, replace(tick, run="u"), ticks=[tick.job])
    assert twice.unexcused == 1
