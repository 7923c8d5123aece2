"""`asyncjobs enqueue APP NAME`: make one job from the shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final, TypeVar, cast

import click
import orjson

from asyncjobs.app import AsyncJobs
from asyncjobs.cli.shared.loading import LoadError, load_app, put_working_directory_on_path
from asyncjobs.cli.shared.render import block, show_json
from asyncjobs.cli.shared.store_command import fail
from asyncjobs.cli.shared.values import Duration
from asyncjobs.errors import (
    AsyncJobsError,
    ConfigError,
    EncodeError,
    JobFailed,
    PayloadTooLarge,
    ResultError,
    StoreError,
    UnsupportedLayout,
    UsageError,
)
from asyncjobs.guard.nearness import nearest_function
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.handle import JobHandle
from asyncjobs.model.job import Priority
from asyncjobs.options.table import ENQUEUE, EnqueueOptions

__all__ = ["enqueue"]

Command = TypeVar("Command", bound=Callable[..., Any])

_EPILOG = """\b
Exit codes:
  0  stored; with --wait: succeeded
  1  the store refused the job; with --wait: it did not succeed in time
  2  wrong usage, configuration or arguments, or APP cannot be imported
  3  the store cannot be reached, or has another layout
"""


_JSON_NAMES: Final = {list: "a list", dict: "an object"}


class Json(click.ParamType[Any]):
    """A list or an object, written as JSON."""

    name = "json"

    def __init__(self, kind: type[list[Any] | dict[str, Any]], example: str) -> None:
        self._kind = kind
        self._example = example

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            found = orjson.loads(value)
        except ValueError as error:
            # The message leaves out the text itself, because arguments may be sensitive.
            self.fail(f"it is not JSON ({error}); write {self._example}", param, ctx)
        if not isinstance(found, self._kind):
            self.fail(f"it is not {_JSON_NAMES[self._kind]}; write {self._example}", param, ctx)
        return found


class Instant(click.ParamType[datetime]):
    """A time in ISO 8601, with its time zone."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time; write 2031-05-01T12:00:00+02:00", param, ctx)
        if found.utcoffset() is None:
            self.fail(f"{value!r} has no zone; write {value}Z for UTC, or +02:00", param, ctx)
        return found


_KINDS: Final[dict[str, click.ParamType[Any]]] = {
    "duration": Duration(),
    "time": Instant(),
    "priority": click.Choice([priority.name.lower() for priority in Priority]),
    "text": click.STRING,
}
_OPTION: Final = "option_"
"""A prefix that tells options of the job from the command's own flags, which may share a name."""


_TOLD: Final = {
    "existing": "exists already: nothing was stored",
    "replaced": "has not started, and has these arguments now",
    "held": "waits until the job that holds its unique key has ended",
    "cancelled": "was cancelled at once, for its limit has no room",
}
"""What to say of an enqueue that has not gone its usual way."""


def _job_options(command: Command) -> Command:
    """Add a flag for each option in the table that has one, in the order of the table."""
    for option in reversed(ENQUEUE.values()):
        if (flag := option.flag) is not None:
            command = click.option(
                f"--{option.name.replace('_', '-')}",
                f"{_OPTION}{option.name}",
                type=_KINDS[flag.kind],
                metavar=flag.metavar,
                help=flag.help,
            )(command)
    return command


@click.command(epilog=_EPILOG)
@click.argument("app")
@click.argument("name")
@click.option(
    "--args",
    type=Json(list, "'[1, \"two\"]'"),
    metavar="JSON",
    help="Positional arguments, as a JSON list.",
)
@click.option(
    "--kwargs",
    type=Json(dict, "'{\"to\": 1}'"),
    metavar="JSON",
    help="Keyword arguments, as a JSON object.",
)
@_job_options
@click.option(
    "--wait", is_flag=True, help="Wait for the end of the job, and print its result as JSON."
)
@click.option("--timeout", type=Duration(), help="How long --wait waits. By default, no limit.")
@click.option("--factory", is_flag=True, help="APP is a function that returns the app.")
@click.pass_context
def enqueue(ctx: click.Context, /, app: str, name: str, *, factory: bool, **flags: Any) -> None:
    """Enqueue a job of APP's job function NAME, and print its queue/id.

    APP is module:attribute. The working directory is on the import path. The job goes to the store
    of the app.

    \b
    Example: asyncjobs enqueue tasks:app tasks.send --args '["Ada"]' --delay 30s
    """
    options = {
        flag.removeprefix(_OPTION): value
        for flag, value in flags.items()
        if flag.startswith(_OPTION) and value is not None
    }
    if "delay" in options and "at" in options:
        raise click.UsageError("give --delay or --at, not both", ctx)
    if flags["timeout"] is not None and not flags["wait"]:
        raise click.UsageError("--timeout says how long to wait; add --wait", ctx)
    put_working_directory_on_path()
    try:
        loaded = load_app(app, factory=factory)
    except LoadError as error:
        if error.traceback:
            click.echo(error.traceback, err=True)
        ctx.exit(fail(ExitCode.USAGE, f"APP {app!r}: {error}"))
    function = loaded.registry.find(name)
    if function is None:
        ctx.exit(fail(ExitCode.USAGE, _unknown(loaded, name)))
    try:
        variant = function.options(**cast(EnqueueOptions, options))
        # Before the store is opened: wrong arguments are wrong usage, whether or not a store
        # answers.
        binding = variant.binding
        binding.check(flags["args"] or [], flags["kwargs"] or {})
        variant.read_types()
        flags["call"] = binding.loaded(flags["args"] or [], flags["kwargs"] or {})
    except AsyncJobsError as error:
        ctx.exit(fail(ExitCode.USAGE, error))
    ctx.exit(asyncio.run(_enqueue(loaded, variant, flags)))


def _unknown(app: AsyncJobs, name: str) -> str:
    names = [function.name for function in app.registry.functions()]
    if not names:
        return (
            f"the app has no job function {name!r}, and no other one; import the modules that "
            "define job functions where you make the app"
        )
    near = nearest_function(name, names)
    if near is not None:
        return f"the app has no job function {name!r}; did you mean {near!r}?"
    return f"the app has no job function {name!r}; it has {', '.join(sorted(names))}"


async def _enqueue(
    app: AsyncJobs, function: JobFunction[..., Any], flags: dict[str, Any]
) -> ExitCode:
    is_open = False
    try:
        async with app:
            is_open = True
            if not app.backend.capabilities.shared:
                return fail(
                    ExitCode.USAGE,
                    "the app's store is in the memory of this process, so the job would be lost at "
                    "its end; set ASYNCJOBS_URL=redis://localhost:6379",
                )
            args, kwargs = flags["call"]
            handle = await function.enqueue(*args, **kwargs)
            click.echo(str(handle.ref))
            told = _TOLD.get(handle.disposition or "new")
            if told is not None:
                click.echo(f"job {handle.ref} {told}", err=True)
            if not flags["wait"]:
                return ExitCode.CLEAN
            return await _wait(function, handle, flags["timeout"])
    except UnsupportedLayout as error:
        return fail(ExitCode.UNREACHABLE, error)
    except (ConfigError, UsageError, EncodeError, PayloadTooLarge) as error:
        return fail(ExitCode.USAGE, error)
    except StoreError as error:
        if is_open:
            return fail(ExitCode.FAILED, error)
        return fail(ExitCode.UNREACHABLE, error)


async def _wait(
    function: JobFunction[..., Any], handle: JobHandle[Any], timeout_s: float | None
) -> ExitCode:
    try:
        value = await handle.result(timeout_s)
    except JobFailed as error:
        if error.remote_traceback:
            click.echo(block(error.remote_traceback.rstrip()), err=True)
        return fail(ExitCode.FAILED, error)
    except ResultError as error:
        return fail(ExitCode.FAILED, error)
    # As it is stored, for a terminal shows JSON.
    codec = function.returns.codec
    if codec is not None:
        value = codec.dump(value)
    show_json(value)
    return ExitCode.CLEAN
