"""`asyncjobs unique list` and `free`: unique keys, and the jobs that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Final, NamedTuple

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import Table, ago, clean, line, moment, show, show_json
from asyncjobs.cli.shared.store_command import ask, fail, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs.times import from_ms
from asyncjobs.store.locks import UniqueLock
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["unique"]

_LIST_EPILOG: Final = """\b
Exit codes:
  0  shown, even if no key is held
  1  a queue cannot be read, or the store failed meanwhile
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_FREE_EPILOG: Final = """\b
Exit codes:
  0  freed
  1  nobody holds a key; you answered no; a queue cannot be read; the store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""


class _Found(NamedTuple):
    """The locks that were asked for, when that was, and the queues that cannot be read."""

    locks: list[UniqueLock]
    now_ms: int
    refused: dict[str, StoreError]


@click.group()
def unique() -> None:
    """Look at unique keys, and free them."""


@unique.command("list", epilog=_LIST_EPILOG)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only in this queue.")
@click.option("--function", metavar="NAME", help="Only keys of this job function; * and ? match.")
@click.option("--limit", type=click.IntRange(1), default=100, help="Show at most so many.")
@store_options
@click.pass_context
def list_keys(
    ctx: click.Context,
    /,
    queues: tuple[str, ...],
    function: str | None,
    limit: int,
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """List unique keys and the jobs that hold them.

    A key is `f:FUNCTION:HASH`, with a hash of the arguments that count, or `k:NAME` for one that
    functions share. Does not import the app.
    """
    names = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        found = await _read(store, names, function)
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        # All of them are read: only then it is known which are the oldest.
        shown = found.locks[:limit]
        if as_json:
            refused = {queue: str(error) for queue, error in found.refused.items()}
            fields = [_fields(lock) for lock in shown]
            show_json({"keys": fields, "total": len(found.locks), "refused": refused})
        elif shown:
            show(_table(shown, found.now_ms))
            if len(found.locks) > limit:
                click.echo(f"{limit:,} of {len(found.locks):,}; --limit shows more", err=True)
        elif not found.refused:
            click.echo("no unique key is held", err=True)
        return ExitCode.failed_if(found.refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


@unique.command("free", epilog=_FREE_EPILOG)
@click.argument("keys", nargs=-1, required=True, metavar="KEY...")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only in this queue.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@click.pass_context
def free(
    ctx: click.Context,
    /,
    keys: tuple[str, ...],
    queues: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Free unique keys, as `asyncjobs unique list` shows them.

    The jobs that hold them go on. A job that is held until the key is free goes on, too. So two
    jobs may run that should not run together. Asks first. Does not import the app.
    """
    names = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        found = await _read(store, names, None)
        chosen = [lock for lock in found.locks if _text(lock.ref.key) in keys]
        missing = sorted(set(keys) - {_text(lock.ref.key) for lock in chosen})
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        for key in missing:
            click.echo(f"Error: {line(f'nobody holds the key {key!r}')}", err=True)
        if chosen and not yes:
            if not can_ask():
                message = f"this would free {count(len(chosen), 'key')}; add --yes to do it"
                return fail(ExitCode.USAGE, message, as_json=as_json)
            holders = ", ".join(line(str(lock.ref.holder)) for lock in chosen[:3])
            if not confirm(f"Free {count(len(chosen), 'key')}, held by {holders}?"):
                click.echo("nothing was freed", err=True)
                return ExitCode.FAILED
        # The store compares the holders once more: a key may have gone to another job meanwhile.
        freed = await store.inspect.unique.free([lock.ref for lock in chosen])
        if as_json:
            done = [_text(lock.ref.key) for lock, was in zip(chosen, freed, strict=True) if was]
            show_json({"freed": done, "missing": missing})
        elif chosen:
            click.echo(f"freed: {count(freed.count(True), 'key')}")
        return ExitCode.failed_if(missing or found.refused or not all(freed))

    ctx.exit(ask(url, prefix, question, as_json=as_json))


async def _read(store: Backend, queues: Sequence[str], function: str | None) -> _Found:
    """All locks that are not over, the oldest first."""
    locks: dict[tuple[str, bytes], UniqueLock] = {}
    refused: dict[str, StoreError] = {}
    now_ms = 0
    for queue in queues or await store.inspect.queues.names():
        after: bytes | None = None
        try:
            while True:
                page = await store.inspect.unique.page(queue, after)
                now_ms = max(now_ms, page.now_ms)
                for lock in page.locks:
                    # A store may name a lock twice.
                    if lock.over_ms > page.now_ms and _is_of(lock, function):
                        locks[queue, lock.ref.key] = lock
                after = page.after
                if after is None:
                    break
        except StoreUnavailable:
            # That is no fault of this queue: the others would fail in the same way.
            raise
        except StoreError as error:
            refused[queue] = error
    ordered = sorted(locks.values(), key=lambda lock: (lock.since_ms, lock.ref))
    return _Found(ordered, now_ms, refused)


def _text(key: bytes) -> str:
    return key.decode("utf-8", "backslashreplace")


def _function(lock: UniqueLock) -> str | None:
    """The job function in a key; None for one that functions share."""
    # As policy/unique.py makes them. Behind `@` stands the job to which the key belongs.
    kind, _, rest = _text(lock.ref.key).partition(":")
    if kind != "f":
        return None
    return rest.partition("@")[0].rpartition(":")[0] or rest


def _is_of(lock: UniqueLock, pattern: str | None) -> bool:
    return pattern is None or fnmatchcase(_function(lock) or "", pattern)


def _time(ms: int) -> datetime:
    # A foreign writer may have put any number there.
    return from_ms(min(ms, LAST_MS))


def _fields(lock: UniqueLock) -> dict[str, Any]:
    return {
        "key": _text(lock.ref.key),
        "queue": lock.ref.queue,
        "function": _function(lock),
        "holder": str(lock.ref.holder),
        "until": lock.until,
        "since": _time(lock.since_ms),
        "free_at": _time(lock.over_ms),
        "next": None if lock.next is None else str(lock.next),
    }


def _table(locks: Sequence[UniqueLock], now_ms: int) -> Table:
    columns = ("key", "holder", "until", "held", "next")
    rows = [
        (
            clean(_text(lock.ref.key)),
            clean(str(lock.ref.holder)),
            _until(lock),
            ago((now_ms - lock.since_ms) / 1000),
            clean("" if lock.next is None else str(lock.next)),
        )
        for lock in locks
    ]
    return Table(columns, rows, frozenset())


def _until(lock: UniqueLock) -> str:
    """When it is free again. The time of a lock that its job frees is only a net."""
    if lock.until == "window":
        return moment(_time(lock.over_ms))
    return lock.until
