"""The texts of a new job function and of its test."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from asyncjobs.cli.generate.listing import listed
from asyncjobs.cli.generate.project import Project
from asyncjobs.cli.shared.templates import LINE, filled, import_line, template
from asyncjobs.options.checks import check_queue_name
from asyncjobs.policy.calendar import Cron

__all__ = ["NewJob", "files_of"]

_HERE: Final = "asyncjobs.cli.generate"
_BEFORE: Final = timedelta(minutes=1)
"""How long before its first time the test of a schedule begins."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """What the user has asked for. Raises ConfigError for a queue or a cron expression that
    cannot work."""

    name: str
    queue: str | None = None
    sync: bool = False
    cron: str | None = None

    def __post_init__(self) -> None:
        if self.queue is not None:
            check_queue_name(self.queue)
        if self.cron is not None:
            Cron(self.cron)

    @property
    def first_tick(self) -> datetime:
        """A time at which the schedule fires, after a date that every project has before it."""
        assert self.cron is not None
        begin = datetime(2040, 1, 1, tzinfo=UTC)
        found = Cron(self.cron).after(int(begin.timestamp() * 1000))
        assert found is not None  # an expression that never fires was refused
        return datetime.fromtimestamp(found / 1000, UTC)


def files_of(job: NewJob, project: Project) -> tuple[dict[Path, str], dict[Path, str]]:
    """The new files, and those that are there and get a line more."""
    module = f"{project.package}.{job.name}"
    values = {
        "name": job.name,
        "imports": import_line(project.app_module, project.app_name),
        "import_job": import_line(module, job.name),
        "decorators": _decorators(job, project.app_name),
        "def": "def" if job.sync else "async def",
        "call": "",
        "queue_check": "",
    }
    if job.queue is not None:
        values["call"] = "call, *_ = "
        # Ends with, for the app may put a prefix before it.
        check = f"    assert call.queue.endswith({_quoted(job.queue)})"
        if len(check) > LINE:
            check = check.replace("(", "(\n        ").replace(")", "\n    )")
        values["queue_check"] = f"{check}\n"
    # Its own test makes the clock pass one of its times: that proves the expression, too.
    kind = "test_job"
    if job.cron is not None:
        kind = "test_schedule"
        values["begin"] = _moment(job.first_tick - _BEFORE)
    texts = {
        project.jobs / f"{job.name}.py": filled(template(_HERE, "job.py"), values),
        project.tests / f"test_{job.name}.py": filled(template(_HERE, f"{kind}.py"), values),
    }
    index = project.jobs / "__init__.py"
    return texts, {index: listed(index, project.package, job.name)}


def _decorators(job: NewJob, app: str) -> str:
    lines = []
    if job.cron is not None:
        lines.append(_fitted(f"@{app}.cron(", [_quoted(job.cron), 'tz="UTC"'], ")"))
    if job.queue is not None:
        lines.append(_fitted(f"@{app}.job(", [f"queue={_quoted(job.queue)}"], ")"))
    else:
        lines.append(f"@{app}.job")
    return "\n".join(lines)


def _fitted(head: str, items: list[str], tail: str) -> str:
    """On one line if it fits, else an item on each, as the formatter does."""
    line = f"{head}{', '.join(items)}{tail}"
    if len(line) <= LINE:
        return line
    inner = "".join(f"    {item},\n" for item in items)
    return f"{head}\n{inner}{tail}"


def _quoted(text: str) -> str:
    """In the quotes that the formatter prefers. Neither queues nor cron expressions have any."""
    return f'"{text}"'


def _moment(at: datetime) -> str:
    parts = (at.year, at.month, at.day, at.hour, at.minute)
    return f"datetime({', '.join(map(str, parts))}, tzinfo=UTC)"
