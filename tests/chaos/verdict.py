"""Whether a run has kept every promise. Pure: from what was planned, done and stored."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asyncjobs.model.job import JobRecord, State
from asyncjobs.model.outcome import Outcome
from tests.chaos import rules
from tests.chaos.faults import Fault
from tests.chaos.jobs import Planned
from tests.chaos.ledger import Execution

__all__ = ["Evidence", "Verdict", "judge"]

TAKEN_S = 0.5
"""How long before its start a job may have been taken: a fault in between counts, too."""

EXCUSES = ("kill", "leave", "long stop", "stop", "half-open", "delay")
"""What may cost a worker its lease or its time. A connection that is cut costs no job its
place, and neither does a restart of the store, however long that takes."""

_STATES = {
    "s": State.SUCCEEDED,
    "d": State.DEAD,
    "x": State.DISCARDED,
    "c": State.CANCELLED,
}


@dataclass
class Evidence:
    """All that is known at the end of a run."""

    planned: Mapping[str, Planned]
    executions: Sequence[Execution]
    faults: Sequence[Fault]
    records: Mapping[str, JobRecord | None]
    seen: Mapping[str, bytes | None] = field(default_factory=dict)
    """Outcomes that were read while the run went on."""
    heard: Mapping[str, tuple[State | None, Any]] = field(default_factory=dict)
    """What waiters were told: a state with its result or error."""
    ticks: Sequence[str] = ()
    """The jobs of a schedule; each has to run, and succeeds."""
    paused: Sequence[rules.Paused] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    """What the store's own counters say: 'e' enqueued, or the letter of a final state."""


@dataclass
class Verdict:
    """Figures, and one text for each violation."""

    violations: list[str] = field(default_factory=list)
    lost: int = 0
    recorded_twice: int = 0
    repeats: Counter[str] = field(default_factory=Counter)
    """Executions beyond one, by the fault that excuses each."""
    unexcused: int = 0
    crashed: int = 0


def judge(evidence: Evidence) -> Verdict:
    """The verdict on a run."""
    verdict = Verdict()
    by_job: dict[str, list[Execution]] = defaultdict(list)
    for execution in evidence.executions:
        by_job[execution.job].append(execution)
    for id, planned in evidence.planned.items():
        problems = _outcome(verdict, planned, evidence.records.get(id), by_job[id])
        problems += _attempts(planned, by_job[id])
        problems += _repeats(verdict, by_job[id], evidence.faults)
        record = evidence.records.get(id)
        if id in evidence.seen and (record is None or record.outcome != evidence.seen[id]):
            verdict.recorded_twice += 1
            problems.append(f"its outcome was {evidence.seen[id]!r} before")
        problems += _told(evidence.heard.get(id), record)
        if problems:
            verdict.violations.append(_report(id, problems, by_job[id], evidence))
    for id in evidence.ticks:
        problems = _repeats(verdict, by_job[id], evidence.faults)
        if not by_job[id]:
            problems.append("this tick has never run")
        if problems:
            verdict.violations.append(_report(id, problems, by_job[id], evidence))

    def excused(run: Execution, end_s: float) -> bool:
        return _excuse(run, end_s, evidence.faults) is not None

    planned, runs = evidence.planned, evidence.executions
    verdict.violations += rules.pauses(evidence.paused, planned, runs, excused)
    verdict.violations += rules.keys(planned, runs, excused)
    for id in by_job.keys() - evidence.planned.keys() - set(evidence.ticks):
        verdict.violations.append(f"{id}: was executed, and never enqueued")
    _totals(verdict, evidence)
    return verdict


def _outcome(
    verdict: Verdict, planned: Planned, record: JobRecord | None, runs: list[Execution]
) -> list[str]:
    """The job has ended, as it should, and its outcome is that of an execution we know."""
    if record is None or not record.state.is_final:
        verdict.lost += 1
        return [f"lost: {'unknown' if record is None else record.state.value}"]
    may_be_cancelled = State.CANCELLED in planned.ends
    if record.outcome is None and record.state is State.CANCELLED and may_be_cancelled:
        return []  # marked while it ran, and found so when it was to be retried
    if record.outcome is None:
        return [f"{record.state.value} without an outcome"]
    outcome = Outcome.decode(record.outcome)
    if outcome.reason == "crashed":
        verdict.crashed += 1
        return []
    problems = []
    if record.state not in planned.ends or outcome.state is not record.state:
        problems.append(f"{record.state.value}, outcome {outcome.state.value}: unexpected")
    returned = {run.run for run in runs if run.how == "returned"}
    if record.state is State.SUCCEEDED and outcome.value not in returned:
        problems.append(f"its result {outcome.value!r} is of no execution that returned")
    raised = {run.attempt for run in runs if run.how == "raised"}
    if record.state in (State.DEAD, State.DISCARDED) and outcome.attempt not in raised:
        problems.append(f"it ended at attempt {outcome.attempt}, which has not raised")
    return problems


def _told(heard: tuple[State | None, Any] | None, record: JobRecord | None) -> list[str]:
    """A waiter was told what is stored."""
    if heard is None or record is None or not record.state.is_final:
        return []
    state, value = heard
    stored = Outcome.decode(record.outcome).value if record.outcome else None
    if state is not record.state or (state is State.SUCCEEDED and value != stored):
        return [f"a waiter was told {value!r}"]
    return []


def _attempts(planned: Planned, runs: list[Execution]) -> list[str]:
    attempts = {run.attempt for run in runs}
    if attempts and max(attempts) > planned.budget:
        return [f"attempt {max(attempts)} of {planned.budget}"]
    if attempts != set(range(1, len(attempts) + 1)):
        return [f"attempts {sorted(attempts)}"]
    return []


def _repeats(verdict: Verdict, runs: list[Execution], faults: Sequence[Fault]) -> list[str]:
    """Of the executions of one attempt, all but one have met a fault on their worker,
    between the moment at which it was taken and that at which it was executed again."""
    problems = []
    for attempt in {run.attempt for run in runs}:
        same = [run for run in runs if run.attempt == attempt]
        if len(same) == 1:
            continue
        excuses = []
        for run, after in zip(same, [*same[1:], same[-1]], strict=True):
            # What happened when it had begun elsewhere again was not the cause.
            excuses.append(_excuse(run, after.start_s, faults))
        missing = sum(excuse is None for excuse in excuses) - 1
        if missing > 0:
            verdict.unexcused += missing
            problems.append(f"attempt {attempt} was executed {len(same)} times, {missing} too many")
        given = [excuse.kind for excuse in excuses if excuse is not None]
        verdict.repeats.update(given[: len(same) - 1 - max(missing, 0)])
    return problems


def _excuse(run: Execution, end_s: float, faults: Sequence[Fault]) -> Fault | None:
    """The plainest cause among the faults that the worker has met."""
    met = [
        fault
        for fault in faults
        if fault.kind in EXCUSES
        and fault.pid == run.pid
        and fault.begin_s <= end_s
        and fault.end_s >= run.start_s - TAKEN_S
    ]
    return min(met, key=lambda fault: EXCUSES.index(fault.kind), default=None)


def _totals(verdict: Verdict, evidence: Evidence) -> None:
    """The store has counted each enqueue and each end once."""
    if not evidence.counted:
        return
    ends = Counter(record.state for record in evidence.records.values() if record is not None)
    ends[State.SUCCEEDED] += len(evidence.ticks)
    expected = {"e": len(evidence.planned) + len(evidence.ticks)}
    expected |= {letter: ends[state] for letter, state in _STATES.items()}
    for letter, number in expected.items():
        counted = evidence.counted.get(letter, 0)
        if counted != number:
            what = "enqueued" if letter == "e" else f"ended as {_STATES[letter].value}"
            verdict.recorded_twice += abs(counted - number) if letter != "e" else 0
            verdict.violations.append(f"{number} jobs {what}, and the store counted {counted}")


def _report(id: str, problems: list[str], runs: list[Execution], evidence: Evidence) -> str:
    lines = [f"{id}: {'; '.join(problems)}", f"  stored: {evidence.records.get(id)}"]
    pids = {run.pid for run in runs}
    lines += [f"  {run}" for run in runs]
    lines += [f"  {fault}" for fault in evidence.faults if fault.pid is None or fault.pid in pids]
    return "\n".join(lines)
