"""Commands that ask a store without an app: their flags, opening the store, exit codes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from asyncjobs.cli.shared.render import hanging, line, paint, show_json
from asyncjobs.errors import ConfigError, StoreError, UnsupportedLayout
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.refs import JobRef
from asyncjobs.options.app import AppSettings
from asyncjobs.store import make_backend, store_url
from asyncjobs.store.apart import apart
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = [
    "Question",
    "ask",
    "describe_store",
    "each_by_itself",
    "fail",
    "new_store",
    "place_options",
    "refusals",
    "store_options",
]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


Question = Callable[[Backend, StoreInfo], Awaitable[int]]


def store_options(command: F) -> F:
    """Add --url, --prefix and --json."""
    as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON on one line.")
    return place_options(as_json(command))


def place_options(command: F) -> F:
    """Add --url and --prefix, which choose the store."""
    flags = (
        click.option(
            "--url",
            metavar="URL",
            help="Store to use. By default $ASYNCJOBS_URL, else the embedded store of this folder.",
        ),
        click.option(
            "--prefix",
            default="asyncjobs",
            show_default=True,
            metavar="TEXT",
            help="Prefix of the keys in the store, as in AsyncJobs(prefix=...).",
        ),
    )
    for flag in reversed(flags):
        command = flag(command)
    return command


def fail(code: ExitCode, error: object, *, as_json: bool = False, **fields: Any) -> ExitCode:
    """Write the error to stderr, and return `code`.

    `as_json`: also write it to stdout as JSON, together with `fields`.
    """
    click.echo(f"Error: {hanging(str(error))}", err=True)
    if as_json:
        show_json({**fields, "error": str(error)})
    return code


def new_store(url: str | None, prefix: str) -> Backend:
    """Make the store; it is not open yet. Raises ConfigError."""
    settings = AppSettings.of(prefix=prefix).store()
    return make_backend(store_url(url), settings)


def ask(
    url: str | None,
    prefix: str,
    question: Question,
    *,
    as_json: bool,
    refused: ExitCode = ExitCode.USAGE,
    **fields: Any,
) -> int:
    """Open the store, ask the question, close the store, and return the exit code.

    `refused`: the exit code if the store answers but cannot be used. `fields`: more fields for the
    JSON of an error.
    """
    fields["as_json"] = as_json
    try:
        store = new_store(url, prefix)
    except ConfigError as error:
        return fail(ExitCode.USAGE, error, **fields)
    return asyncio.run(_ask(store, question, refused, fields))


async def _ask(
    store: Backend, question: Question, refused: ExitCode, fields: Mapping[str, Any]
) -> int:
    try:
        info = await store.open()
    # Before ConfigError, of which it is a kind: the store cannot be used, but the command is right.
    except UnsupportedLayout as error:
        await store.close()
        return fail(ExitCode.UNREACHABLE, error, **fields)
    except ConfigError as error:
        await store.close()
        return fail(refused, error, **fields)
    except StoreError as error:
        await store.close()
        return fail(ExitCode.UNREACHABLE, error, **fields)
    try:
        return await question(store, info)
    except StoreError as error:
        return fail(ExitCode.FAILED, error, **fields)
    finally:
        await store.close()


def describe_store(info: StoreInfo) -> str:
    """Name, version and address of a store, for people."""
    scheme, _, folder = info.address.partition(":")
    if scheme == "embedded":
        return line(f"{info.name} {info.version}, embedded in {folder}")
    return line(f"{info.name} {info.version} at {info.address}")


def each_by_itself(
    ask: Callable[[Sequence[JobRef]], Awaitable[Sequence[T | None]]],
) -> Callable[[Sequence[JobRef]], Awaitable[list[T | None]]]:
    """Make `ask` answer None for a job that cannot be read, and name the job on stderr.

    Otherwise a single unreadable job would hide all others.
    """

    async def asked(refs: Sequence[JobRef]) -> list[T | None]:
        found = await apart(ask, refs)
        for ref, error in found.refused.items():
            click.echo(line(f"Error: job {ref} cannot be read: {error}"), err=True)
        return [found.answers.get(ref) for ref in refs]

    return asked


def refusals(refused: Mapping[str, StoreError]) -> list[str]:
    """A line for each queue that cannot be read."""
    return [
        f"{paint('problem', 'red')}: {line(f'queue {queue!r} cannot be read: {error}')}"
        for queue, error in refused.items()
    ]
