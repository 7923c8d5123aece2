"""What came of the jobs, as plain text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from statistics import quantiles
from typing import Final

from plain import PlainLoop
from tasks import LONGEST, Census, has_planted_fault

FINAL: Final = ("succeeded", "discarded", "dead", "cancelled")
_SHOWN: Final = 30
"""Lines of a list before the rest is only counted."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended: `state`, and the census or the reason why there is none.

    A job is accounted for when the store has said how it ended.
    """

    state: str
    census: Census | None = None
    reason: str = ""

    @property
    def is_accounted_for(self) -> bool:
        """A success counts only with its census."""
        return self.state in FINAL and (self.state != "succeeded" or self.census is not None)


@dataclass(slots=True)
class Run:
    """A run's jobs by id with their priorities, what the store said of each, and what was
    measured, in seconds."""

    jobs: dict[str, str]
    endings: dict[str, Ending] = field(default_factory=dict)
    enqueue_s: float = 0.0
    work_s: float = 0.0
    processes: int = 1
    plain: PlainLoop | None = None

    def unaccounted(self) -> dict[str, str]:
        """The jobs whose end is not known, with what is known of them."""
        lost: dict[str, str] = {}
        for job in self.jobs:
            ending = self.endings.get(job)
            if ending is None:
                lost[job] = "no answer"
            elif not ending.is_accounted_for:
                lost[job] = f"{ending.state} {ending.reason}".strip()
        return lost


def report(run: Run) -> str:
    """The summary, ready to print."""
    return "\n".join([*_numbers(run), *_times(run), *_longest(run), *_lists(run)])


def _numbers(run: Run) -> Iterator[str]:
    states = Counter(ending.state for ending in run.endings.values() if ending.is_accounted_for)
    lost = len(run.unaccounted())
    found = [ending.census for ending in run.endings.values() if ending.census]
    again = [census for census in found if census["attempt"] > 1]
    yield "Summary"
    yield _row("jobs", f"{len(run.jobs):,}")
    for state in FINAL:
        if states[state] or state == "succeeded":
            yield _row(f"  {state}", f"{states[state]:,}")
    yield _row("  unaccounted for", f"{lost:,}")
    planted = sum(has_planted_fault(job) for job, end in run.endings.items() if end.census)
    extra = sum(census["attempt"] - 1 for census in again)
    yield _row(
        "retried",
        f"{len(again):,}",
        f"and succeeded; failed attempts {extra:,}, planted faults {planted:,}",
    )
    rate = f"{len(run.jobs) / run.enqueue_s:,.0f}" if run.enqueue_s else "-"
    yield _row("enqueued/s", rate, f"all jobs in {run.enqueue_s:.2f} s")
    rate = f"{sum(states.values()) / run.work_s:,.0f}" if run.work_s else "-"
    yield _row(
        "jobs/s",
        rate,
        f"jobs ended in {run.work_s:.2f} s, the worker's start-up included",
    )
    yield _row("processes", f"{run.processes:,}")
    if run.plain is not None:
        yield _row(
            "plain loop, s",
            f"{run.plain.seconds:,.1f}",
            f"estimated from {run.plain.counted:,} files; the worker took {run.work_s:.1f} s",
        )
        yield _row(
            "in threads, s",
            f"{run.plain.threaded:,.1f}",
            f"estimated; {run.processes:,} threads share one lock of the interpreter",
        )
    yield ""
    yield "Found"
    for name in ("lines", "functions", "coroutines", "classes", "imports"):
        yield _row(name, f"{sum(census[name] for census in found):,}")


def _times(run: Run) -> Iterator[str]:
    """Queue time and run time of each priority, in milliseconds."""
    rows: dict[str, list[Census]] = {}
    for job, ending in run.endings.items():
        if ending.census:
            rows.setdefault(run.jobs[job], []).append(ending.census)
    if not rows:
        return
    yield ""
    yield "Times, ms            jobs   queue p50   queue p99     run p50     run p99"
    for name in ("high", "normal", "low"):
        found = rows.get(name, [])
        queued = [census["queued_ms"] for census in found if census["queued_ms"] is not None]
        ran = [census["ran_ms"] for census in found]
        if ran:
            cells = (*_p50_p99(queued), *_p50_p99(ran))
            yield f"  {name:<15}{len(found):>8,}" + "".join(f"{ms:>12,.1f}" for ms in cells)


def _p50_p99(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return (values[0], values[0]) if values else (0.0, 0.0)
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


def _row(name: str, value: str, note: str = "") -> str:
    return f"  {name:<18}{value:>10}  {note}".rstrip()


def _longest(run: Run) -> Iterator[str]:
    rows = [
        (function["lines"], function["name"], f"{job}:{function['line']}")
        for job, ending in run.endings.items()
        if ending.census
        for function in ending.census["longest"]
    ]
    rows.sort(key=lambda row: (-row[0], row[2]))
    if not rows:
        return
    width = max(len(name) for _, name, _ in rows[:LONGEST])
    yield ""
    yield "The longest functions"
    yield f"  {'lines':>6}  {'function':<{width}}  where"
    for lines, name, where in rows[:LONGEST]:
        yield f"  {lines:>6,}  {name:<{width}}  {where}"


def _lists(run: Run) -> Iterator[str]:
    for state in FINAL[1:]:
        yield from _list(
            state.capitalize(),
            {job: end.reason for job, end in run.endings.items() if end.state == state},
        )
    yield from _list("Unaccounted for", run.unaccounted())


def _list(title: str, reasons: dict[str, str]) -> Iterator[str]:
    if not reasons:
        return
    yield ""
    yield f"{title} ({len(reasons):,})"
    for job, reason in sorted(reasons.items())[:_SHOWN]:
        yield f"  {job}  {' '.join(reason.split())}"
    if len(reasons) > _SHOWN:
        yield f"  and {len(reasons) - _SHOWN:,} more"
