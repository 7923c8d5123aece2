"""`asyncjobs jobs show ID`: what the store knows about one job."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import click
import orjson

from asyncjobs.cli.jobs.listing import max_attempts, progress_text
from asyncjobs.cli.shared.render import (
    Part,
    Table,
    block,
    clean,
    field_table,
    moment,
    show,
    show_json,
)
from asyncjobs.cli.shared.store_command import ask, each_by_itself, fail, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import ConfigError, JobNotFound, NotOpen
from asyncjobs.guard.texts import in_queues, shown
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.cursors import to_tagged
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.jobs.info import JobError, JobInfo
from asyncjobs.jobs.readings import check_job_name, read_job_name
from asyncjobs.jobs.rows import worker_name
from asyncjobs.jobs.step_info import StepInfo
from asyncjobs.model.events import Events
from asyncjobs.options.checks import check_queue_name
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["show_job"]

_EPILOG = """\b
Exit codes:
  0  the job is known
  1  no such job, or several
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command("show", epilog=_EPILOG)
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="NAME", help="Look in this queue only.")
@store_options
@click.pass_context
def show_job(
    ctx: click.Context,
    /,
    job_id: str,
    queue: str | None,
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Show what the store knows about a job: state, times, arguments, errors, progress.

    ID is queue/id. With the id alone, all queues are searched. Values that were declared
    sensitive when the job was enqueued are masked. Does not import the app.
    """
    try:
        check_job_name(job_id, field="ID")
        if queue is not None:
            check_queue_name(queue, field="--queue")
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None

    async def question(store: Backend, info: StoreInfo) -> int:
        only = None
        if queue is not None:
            only = (queue,)
        return await _show(store, job_id, only, as_json=as_json)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


async def _show(store: Backend, job_id: str, only: tuple[str, ...] | None, *, as_json: bool) -> int:
    readings = read_job_name(job_id, await store.inspect.queues.names(), only=only)
    looked_in = only or [ref.queue for ref in readings.refs]
    found = [record.ref for record in await readings.find(each_by_itself(store.get))]
    if not found:
        return fail(ExitCode.FAILED, _not_found(job_id, looked_in), as_json=as_json)
    if len(found) > 1:
        # An id is unique within its queue only. To show one of them would be a guess.
        places = ", ".join(map(str, found))
        message = f"job id {job_id!r} stands for several jobs: {places}; name one with --queue"
        return fail(ExitCode.FAILED, message, as_json=as_json)
    try:
        job = await JobHandle[Any](_StoreReader(store), found).info()
        # Before anything is shown, and for JSON as well: output ends up in tickets and chats.
        job = job.redacted()
        lease = job.worker
        job = await _with_worker(store, job)
    except JobNotFound:
        # It was there a moment ago: its result has expired since.
        return fail(ExitCode.FAILED, _not_found(job_id, looked_in), as_json=as_json)
    if as_json:
        show_json({**_fields(job), "lease": lease})
    else:
        show(*_parts(job))
    return ExitCode.CLEAN


async def _with_worker(store: Backend, job: JobInfo) -> JobInfo:
    """The same job, with the name of its worker instead of its lease: people know only the name."""
    if job.worker is None:
        return job
    for entry in await store.inspect.workers([job.ref.queue]):
        if entry.lease == job.worker:
            return replace(job, worker=worker_name(entry.info) or job.worker)
    return job


class _StoreReader:
    """Stands for the app that a handle asks for its settings. Commands have no app, so these are
    the settings of the job itself."""

    def __init__(self, store: Backend) -> None:
        self._store = store
        self.events = Events()

    def opened(self) -> Backend:
        return self._store

    def ask_from_thread(self, question: Any, what: str) -> Any:
        raise NotOpen(f"{what}: a command has no threads")

    def result_ttl_ms(self, name: str | None, options: dict[str, Any] | None) -> int:
        # Only a cancel asks for it, and this command changes nothing.
        return 0

    def result_value(self, ref: object, name: str, value: Any) -> Any:
        return value

    def max_attempts(self, name: str, options: dict[str, Any] | None) -> int | None:
        return max_attempts(name, options)


def _not_found(job_id: str, looked_in: Sequence[str]) -> str:
    where = "and no queue either"
    if looked_in:
        where = in_queues(looked_in)
    return (
        f"no job {job_id!r} {where}; finished jobs are known for id_ttl and their results for "
        "result_ttl. Is it the right store? asyncjobs check says which one this is"
    )


def _fields(job: JobInfo) -> dict[str, Any]:
    progress = job.progress
    fields = {
        "job": str(job.ref),
        "queue": job.ref.queue,
        "id": job.ref.id,
        "state": job.state,
        "function": job.name,
        "attempt": job.attempt,
        "priority": _priority(job),
        "worker": job.worker,
        "started_at": job.started_at,
        "is_cancelled": job.is_cancelled,
        "held_by": job.held_by,
        "meta": dict(job.meta),
        "tags": list(job.tags),
        "put_back": None,
        "enqueued_at": job.enqueued_at,
        "scheduled_at": job.scheduled_at,
        "expires_at": job.expires_at,
        "due_at": job.due_at,
        "finished_at": job.finished_at,
        "args": job.args,
        "kwargs": job.kwargs,
        "progress": progress
        and {"done": progress.done, "total": progress.total, "note": progress.note},
        "steps": [_step_fields(step) for step in job.steps],
        "reason": job.reason,
        "error": job.error and _error_fields(job.error),
        "errors": [_error_fields(error) for error in job.errors],
    }
    if job.put_back:
        fields["put_back"] = {"times": job.put_back, "since": job.put_back_since}
    return fields


def _step_fields(step: StepInfo) -> dict[str, Any]:
    return {
        "step": step.name,
        "is_finished": step.is_finished,
        "cursor": to_tagged(step.cursor, "the cursor"),
        "at": step.at,
    }


def _error_fields(error: JobError) -> dict[str, Any]:
    return {
        "type": error.type,
        "message": error.message,
        "traceback": error.traceback,
        "attempt": error.attempt,
        "at": error.at,
        "worker": error.worker,
    }


def _parts(job: JobInfo) -> list[Part]:
    state = str(job.state)
    if job.is_cancelled:
        state += ", asked to stop"
    if job.held_by is not None:
        state += f", waits for {job.held_by}"
    rows = {
        "job": str(job.ref),
        "state": state,
        "function": job.name,
        "attempt": _in_json(job.attempt),
        "priority": _priority(job),
        "worker": job.worker,
        "started": _when(job.started_at),
        "put back": _put_back(job),
        "labels": ", ".join(f"{name}={text}" for name, text in job.meta.items()) or None,
        "tags": ", ".join(job.tags) or None,
        "enqueued": _when(job.enqueued_at),
        "scheduled": _when(job.scheduled_at),
        "expires": _when(job.expires_at),
        "due": _when(job.due_at),
        "finished": _when(job.finished_at),
        "args": _in_json(job.args),
        "kwargs": _in_json(job.kwargs),
        "progress": _progress(job),
        "reason": job.reason,
        "error": _error(job.error),
    }
    parts: list[Part] = [field_table(rows)]
    if job.steps:
        parts.append(Table(("step", "state", "cursor", "at"), [_step_row(s) for s in job.steps]))
    if job.errors:
        # The traceback of the last one alone: five of them would push the rest off the screen.
        parts.append(Table(("failed", "at", "on", "error"), [_error_row(e) for e in job.errors]))
        if trace := job.errors[-1].traceback.rstrip():
            parts.append(block(trace))
    return parts


def _step_row(step: StepInfo) -> tuple[str, ...]:
    state = "finished" if step.is_finished else "begun"
    cursor = ""
    if step.cursor is not None:
        # A date or a tuple reads as it is written in Python, and a foreign text has no line breaks.
        cursor = shown(step.cursor)
    return tuple(clean(text) for text in (step.name, state, cursor, _when(step.at) or ""))


def _put_back(job: JobInfo) -> str | None:
    if not job.put_back:
        return None
    return (
        f"{count(job.put_back, 'time')} since {_when(job.put_back_since)}: the workers that took "
        "it do not have its function"
    )


def _error_row(error: JobError) -> tuple[str, ...]:
    # A row of a table has one line, and the whole message stands below or in the JSON.
    first_line = error.message.partition("\n")[0]
    number = ""
    if error.attempt is not None:
        number = f"attempt {error.attempt}"
    row = (number, _when(error.at) or "", error.worker or "", f"{error.type}: {first_line}")
    return tuple(clean(text) for text in row)


def _when(time: datetime | None) -> str | None:
    if time is None:
        return None
    return moment(time)


def _error(error: JobError | None) -> str | None:
    if error is None:
        return None
    return f"{error.type}: {error.message}"


def _priority(job: JobInfo) -> str | None:
    if job.priority is None:
        return None
    return job.priority.name.lower()


def _in_json(value: object) -> str | None:
    if value is None:
        return None
    return orjson.dumps(value).decode()


def _progress(job: JobInfo) -> str | None:
    return progress_text(job.progress) or None
