"""`asyncjobs jobs edit`: other arguments or another time for a job that has not started."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import click

from asyncjobs.app import AsyncJobs
from asyncjobs.cli.jobs.actions import find_record
from asyncjobs.cli.jobs.enqueue import Instant, Json
from asyncjobs.cli.shared.loading import LoadError, load_app, put_working_directory_on_path
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import ask, fail, store_options
from asyncjobs.cli.shared.values import Duration
from asyncjobs.errors import AsyncJobsError, ConfigError, StoreError
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs import acting
from asyncjobs.jobs.acting import ActionVerdict
from asyncjobs.jobs.overview import check_arguments, run_at_ms
from asyncjobs.jobs.readings import check_job_name
from asyncjobs.model.job import State
from asyncjobs.options.checks import check_queue_name
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["edit"]

_EPILOG = """\b
Exit codes:
  0  changed
  1  no such job, or it runs, has ended, or was changed meanwhile; the store failed
  2  wrong usage, configuration or arguments, or APP cannot be imported
  3  the store cannot be reached, or has another layout
"""
_WHY = {
    ActionVerdict.RUNNING: "a worker runs it",
    # It was there a moment ago.
    ActionVerdict.GONE: "it has ended",
    ActionVerdict.MOVED: "somebody has changed it or wants to stop it; look at it, and try again",
    ActionVerdict.ID_TAKEN: "a living job has its id; wait until that one has ended",
    ActionVerdict.KEY_TAKEN: "another job holds its unique key; wait for its end, or cancel it",
    ActionVerdict.UNREADABLE: "what is stored of it cannot be read",
}


@click.command(epilog=_EPILOG)
@click.argument("job_id", metavar="ID")
@click.option("--queue", metavar="NAME", help="Look in this queue only.")
@click.option(
    "--args",
    type=Json(list, "'[1, \"two\"]'"),
    metavar="JSON",
    help="Its new positional arguments, as a JSON list. Needs --app.",
)
@click.option(
    "--kwargs",
    type=Json(dict, "'{\"to\": 1}'"),
    metavar="JSON",
    help="Its new keyword arguments, as a JSON object. Needs --app.",
)
@click.option("--at", type=Instant(), metavar="TIME", help="When it shall run, in ISO 8601.")
@click.option("--delay", type=Duration(), help="In how long it shall run: 30s.")
@click.option(
    "--app",
    metavar="APP",
    help="module:attribute of the app that has the job's function, to check the arguments.",
)
@click.option("--factory", is_flag=True, help="APP is a function that returns the app.")
@store_options
@click.pass_context
def edit(
    ctx: click.Context,
    /,
    job_id: str,
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
    **flags: Any,
) -> None:
    """Give a job that has not started other arguments, another time, or both.

    A dead job runs again with its new arguments. A ready job goes behind all others of its
    priority. A job that was taken or changed meanwhile is left alone. The app is imported only to
    check arguments: the store is that of --url.
    """
    queues = _check(ctx, job_id, flags)
    # Before the store is opened: an app that cannot be imported is wrong usage either way.
    app = None
    if flags["app"] is not None:
        put_working_directory_on_path()
        try:
            app = load_app(flags["app"], factory=flags["factory"])
        except LoadError as error:
            if error.traceback:
                click.echo(error.traceback, err=True)
            ctx.exit(fail(ExitCode.USAGE, f"--app {flags['app']!r}: {error}", as_json=as_json))

    async def question(store: Backend, info: StoreInfo) -> int:
        return await _edit(store, app, job_id, queues, flags, as_json=as_json)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _check(ctx: click.Context, job_id: str, flags: dict[str, Any]) -> tuple[str, ...]:
    """The queues to look in. Raises click.UsageError."""
    has_arguments = flags["args"] is not None or flags["kwargs"] is not None
    if not has_arguments and flags["at"] is None and flags["delay"] is None:
        raise click.UsageError("nothing to change: give --args, --kwargs, --at or --delay", ctx)
    if flags["at"] is not None and flags["delay"] is not None:
        raise click.UsageError("give --delay or --at, not both", ctx)
    if has_arguments and flags["app"] is None:
        raise click.UsageError(
            "arguments are checked against the job function: add --app module:attribute", ctx
        )
    try:
        check_job_name(job_id, field="ID")
        if flags["queue"] is None:
            return ()
        return (check_queue_name(flags["queue"], field="--queue"),)
    except ConfigError as error:
        raise click.UsageError(str(error), ctx) from None


async def _edit(
    store: Backend,
    app: AsyncJobs | None,
    job_id: str,
    queues: tuple[str, ...],
    flags: dict[str, Any],
    *,
    as_json: bool,
) -> int:
    record = await find_record(store, job_id, queues)
    if isinstance(record, str):
        return fail(ExitCode.FAILED, record, as_json=as_json)
    at: datetime | None = flags["at"]
    if record.state is State.DEAD and (at is not None or flags["delay"] is not None):
        message = f"job {record.ref} is dead, and runs again at once: leave out --at and --delay"
        return fail(ExitCode.USAGE, message, as_json=as_json)
    args, kwargs = flags["args"], flags["kwargs"]
    try:
        if app is not None and (args is not None or kwargs is not None):
            check_arguments(app.registry, app.settings.max_payload, record, args, kwargs)
        at_ms = await run_at_ms(store, record.ref.queue, at=at, delay=flags["delay"])
        verdict = await acting.change(store, record, args=args, kwargs=kwargs, at_ms=at_ms)
    except StoreError:
        # `ask` says what is to be done about the store.
        raise
    except AsyncJobsError as error:
        return fail(ExitCode.USAGE, error, as_json=as_json)
    if verdict is not ActionVerdict.DONE:
        message = f"job {record.ref} was not changed: {_WHY[verdict]}"
        return fail(ExitCode.FAILED, message, as_json=as_json, job=str(record.ref))
    if as_json:
        show_json({"job": str(record.ref), "changed": True})
    else:
        click.echo(line(f"changed job {record.ref}"))
    return ExitCode.CLEAN
