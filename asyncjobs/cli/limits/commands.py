"""`asyncjobs limits list`, `show`, `set` and `free`."""

from __future__ import annotations

from typing import Final

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.limits.found import check_gates, every_queue, fields, find, look, named, table
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import line, show, show_json
from asyncjobs.cli.shared.store_command import ask, fail, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import ConfigError, UsageError
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.terms import LimitRule
from asyncjobs.policy.rates import parse_rule, rule_text
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["limits"]

_LOOK_EPILOG: Final = """\b
Exit codes:
  0  shown
  1  a queue cannot be read, or the store failed meanwhile; show: nobody has used the limit
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""
_SET_EPILOG: Final = """\b
Exit codes:
  0  set
  1  nobody has used the limit; a queue cannot be read; the store failed
  2  wrong usage or configuration; a rule of the other kind
  3  the store cannot be reached, or has another layout
"""
_FREE_EPILOG: Final = """\b
Exit codes:
  0  freed
  1  nobody has used the limit; you answered no; a queue cannot be read; the store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""


@click.group()
def limits() -> None:
    """Look at limits, give them other rules, and open keys."""


@limits.command("list", epilog=_LOOK_EPILOG)
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only in this queue.")
@click.option("--name", metavar="NAME", help="Only this limit; * and ? match.")
@click.option("--limit", "most", type=click.IntRange(1), default=100, help="Show at most so many.")
@store_options
@click.pass_context
def list_limits(
    ctx: click.Context,
    /,
    queues: tuple[str, ...],
    name: str | None,
    most: int,
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """List the keys of limits that are in use, those that most jobs wait at first.

    A key is in use while a job runs under it or waits because of it, while it is closed for a time,
    and if it has a rule of its own. Does not import the app.
    """
    names = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        found = await find(store, names, name)
        for problem in refusals(found.refused):
            click.echo(problem, err=True)
        shown = found.records[:most]
        if as_json:
            refused = {queue: str(error) for queue, error in found.refused.items()}
            total = len(found.records)
            show_json({"limits": [*map(fields, shown)], "total": total, "refused": refused})
        elif shown:
            show(table(shown, found.now_ms))
            if len(found.records) > most:
                click.echo(f"{most:,} of {len(found.records):,}; --limit shows more", err=True)
        elif not found.refused:
            click.echo("no limit is in use", err=True)
        return ExitCode.failed_if(found.refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


@limits.command("show", epilog=_LOOK_EPILOG)
@click.argument("name")
@click.argument("key", default="")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only in this queue.")
@store_options
@click.pass_context
def show_limit(
    ctx: click.Context,
    /,
    name: str,
    key: str,
    queues: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Show one key of a limit, in each queue that knows the limit.

    KEY is left out for a limit with one key. Does not import the app.
    """
    names = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        records, refused = await look(store, names, name, key)
        for problem in refusals(refused):
            click.echo(problem, err=True)
        if not records:
            return _unknown(name, as_json=as_json)
        if as_json:
            show_json({"limits": [*map(fields, records)]})
        else:
            # A look does not say what time it is, and the clock here may be another one.
            page = await store.limits.page(records[0].queue, None, 1)
            show(table(records, page.now_ms))
        return ExitCode.failed_if(refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


@limits.command("set", epilog=_SET_EPILOG)
@click.argument("name")
@click.argument("words", nargs=-1, metavar="[KEY] [RULE]")
@click.option("--code", is_flag=True, help="Let the rule of the code hold again.")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only in this queue.")
@store_options
@click.pass_context
def set_limit(
    ctx: click.Context,
    /,
    name: str,
    words: tuple[str, ...],
    queues: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    code: bool,
    as_json: bool,
) -> None:
    """Let another rule hold for a limit, or for one key of it, until it is set again.

    RULE is `5` for so many jobs at a time, `100/minute` for a rate, or `100/minute:20` with a burst
    of 20. With --code there is no RULE. Jobs that may go on with it do so at once. Those that run
    go on. Does not import the app.
    """
    names = read_queues(ctx, queues)
    key, rule = _read_words(words, code=code)

    async def question(store: Backend, info: StoreInfo) -> int:
        check_gates(store)
        done: list[str] = []

        async def change(queue: str) -> None:
            if await store.limits.set_rule(queue, name, key, rule):
                done.append(queue)

        try:
            refused = await every_queue(store, names, change)
        except UsageError as error:
            return fail(ExitCode.USAGE, error, as_json=as_json)
        for problem in refusals(refused):
            click.echo(problem, err=True)
        if not done:
            return _unknown(name, as_json=as_json)
        new = "that of the code" if rule is None else rule_text(rule)
        if as_json:
            text = None if rule is None else rule_text(rule)
            show_json({"name": name, "key": key, "rule": text, "queues": done})
        else:
            click.echo(line(f"the rule of {name} {key or ''}".rstrip() + f" is {new}"))
        return ExitCode.failed_if(refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


@limits.command("free", epilog=_FREE_EPILOG)
@click.argument("name")
@click.argument("key", default="")
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only in this queue.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@store_options
@click.pass_context
def free(
    ctx: click.Context,
    /,
    name: str,
    key: str,
    queues: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Open a key that is closed for a time, and count its permits anew by the jobs that run.

    A service that has asked to be left alone until then is asked before. Asks first. Does not
    import the app.
    """
    names = read_queues(ctx, queues)

    async def question(store: Backend, info: StoreInfo) -> int:
        records, refused = await look(store, names, name, key)
        for problem in refusals(refused):
            click.echo(problem, err=True)
        if not records:
            return _unknown(name, as_json=as_json)
        if not yes:
            if not can_ask():
                message = f"this would free {named(records[0])}; add --yes to do it"
                return fail(ExitCode.USAGE, message, as_json=as_json)
            waiting = sum(record.waiting for record in records)
            asked = line(f"Free {named(records[0])}, where {count(waiting, 'job')} wait?")
            if not confirm(asked):
                click.echo("nothing was freed", err=True)
                return ExitCode.FAILED
        permits = 0
        for record in records:
            permits += await store.limits.free(record.queue, name, key)
        if as_json:
            show_json({"freed": [record.queue for record in records], "permits": permits})
        else:
            click.echo(line(f"freed: {named(records[0])}, {count(permits, 'permit')} of nobody"))
        return ExitCode.failed_if(refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _read_words(words: tuple[str, ...], *, code: bool) -> tuple[str | None, LimitRule | None]:
    """The key and the rule of `limits set`."""
    most = 1 if code else 2
    if len(words) > most or (not code and not words):
        raise click.UsageError("give NAME [KEY] RULE, or NAME [KEY] --code")
    if code:
        return (words[0] if words else None), None
    *keys, text = words
    try:
        rule = parse_rule(text)
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    return (keys[0] if keys else None), rule


def _unknown(name: str, *, as_json: bool) -> ExitCode:
    message = f"nobody has used a limit {name!r}; asyncjobs limits list shows them"
    return fail(ExitCode.FAILED, message, as_json=as_json)
