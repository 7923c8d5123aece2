"""`asyncjobs workers quiet | resume | stop | weights`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import click

from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import clean, show_json
from asyncjobs.cli.shared.store_command import ask, fail, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.cli.workers.listing import worker_fields
from asyncjobs.client.workers import WorkerInfo, Workers
from asyncjobs.errors import UsageError
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["quiet", "resume", "stop", "weights"]

_EPILOG = """\b
Exit codes:
  0  ordered; a worker follows within milliseconds, or by its next heartbeat
  1  no live worker has the name, or several have it, and nobody was ordered; you answered no;
     the store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""

MOST_DIGITS: Final = 100
Order = Callable[..., Awaitable[Sequence[WorkerInfo]]]


def _give(
    ctx: click.Context,
    names: tuple[str, ...],
    choose: Callable[[Workers], Order],
    word: str,
    url: str | None,
    prefix: str,
    *,
    all_: bool,
    asks: bool = False,
    as_json: bool,
) -> None:
    """Give one order to these workers, or to all. `asks`: a person has to agree to `all_`."""
    if bool(names) == all_:
        raise click.UsageError("name the workers, or give --all", ctx)

    async def question(store: Backend, info: StoreInfo) -> int:
        workers = Workers(lambda: store)
        # By lease: names may fit several workers, and --all means each of them.
        chosen = names
        if all_:
            chosen = tuple(worker.lease for worker in await workers.list())
        if asks and len(chosen) > 1:
            refusal = _ask_first(count(len(chosen), "worker"), word, as_json=as_json)
            if refusal is not None:
                return refusal
            if all_:
                # Some may have ended while a person thought about it. That is no typo.
                chosen = await _still_there(workers, chosen)
        try:
            found = await choose(workers)(*chosen)
        except UsageError as error:
            return fail(ExitCode.FAILED, error, as_json=as_json)
        _tell(word, found, as_json=as_json)
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=as_json))


async def _still_there(workers: Workers, leases: tuple[str, ...]) -> tuple[str, ...]:
    """Those of these leases that live."""
    live = {worker.lease for worker in await workers.list()}
    return tuple(lease for lease in leases if lease in live)


def _ask_first(what: str, word: str, *, as_json: bool) -> ExitCode | None:
    """The exit code if nobody is to be ordered, None after a yes."""
    if not can_ask():
        # A script has nobody to answer. To go on would be worse than to stop.
        return fail(ExitCode.USAGE, f"this is about {what}; add --yes to do it", as_json=as_json)
    if not confirm(f"Order {what}: {word}?"):
        click.echo("nobody was ordered", err=True)
        return ExitCode.FAILED
    return None


def _tell(word: str, found: Sequence[WorkerInfo], *, as_json: bool) -> None:
    if as_json:
        show_json({"ordered": word, "workers": list(map(worker_fields, found))})
        return
    for worker in found:
        click.echo(f"ordered: {word}: {clean(worker.name)} ({clean(worker.lease)})")
    if not found:
        click.echo("no worker")


_NAMES = click.argument("names", nargs=-1, metavar="[NAME]...")
_ALL = click.option("--all", "all_", is_flag=True, help="Every live worker.")


@click.command("quiet", epilog=_EPILOG)
@_NAMES
@_ALL
@store_options
@click.pass_context
def quiet(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    all_: bool,
    as_json: bool,
) -> None:
    """Let workers take no more jobs, and stay.

    Jobs that run go on. `workers resume` lets them take jobs again. A worker is named by its name,
    by its lease, or by the first 6 or more characters of that. Does not import the app.
    """
    _give(ctx, names, lambda w: w.quiet, "quiet", url, prefix, all_=all_, as_json=as_json)


@click.command("resume", epilog=_EPILOG)
@_NAMES
@_ALL
@store_options
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    all_: bool,
    as_json: bool,
) -> None:
    """Let quiet workers take jobs again.

    Does not import the app.
    """
    _give(ctx, names, lambda w: w.resume, "resume", url, prefix, all_=all_, as_json=as_json)


@click.command("stop", epilog=_EPILOG)
@_NAMES
@_ALL
@click.option("--yes", is_flag=True, help="Do not ask before stopping more than one.")
@store_options
@click.pass_context
def stop(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    all_: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """End workers as by SIGTERM, with their grace.

    Whatever has started a worker may start it again: systemd, a container platform, or the parent
    of --processes, which replaces a process that has ended. Use `workers quiet` if nothing is to
    run, or stop the parent. Asks before it stops more than one. Does not import the app.
    """
    _give(
        ctx, names, lambda w: w.stop, "stop", url, prefix, all_=all_, asks=not yes, as_json=as_json
    )


@click.command("weights", epilog=_EPILOG)
@click.argument("name", metavar="NAME")
@click.argument("shares", nargs=-1, required=True, metavar="QUEUE=WEIGHT...")
@store_options
@click.pass_context
def weights(
    ctx: click.Context,
    /,
    name: str,
    shares: tuple[str, ...],
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Share the slots of one worker by other weights, until it ends.

    Queues that are not named keep theirs. Does not import the app.
    """
    wanted = _read_weights(ctx, shares)

    async def question(store: Backend, info: StoreInfo) -> int:
        try:
            worker = await Workers(lambda: store).weights(name, wanted)
        except UsageError as error:
            return fail(ExitCode.FAILED, error, as_json=as_json)
        if as_json:
            show_json({"ordered": "weights", "weights": wanted, "workers": [worker_fields(worker)]})
        else:
            said = ", ".join(f"{queue}={weight}" for queue, weight in wanted.items())
            click.echo(f"ordered: {clean(said)}: {clean(worker.name)} ({clean(worker.lease)})")
        return ExitCode.CLEAN

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _read_weights(ctx: click.Context, shares: tuple[str, ...]) -> dict[str, int]:
    """`mail=3`, as on the command line. Raises click.UsageError."""
    found: dict[str, int] = {}
    for share in shares:
        queue, sign, weight = share.rpartition("=")
        # Python reads no number of thousands of digits.
        is_number = weight.isdecimal() and weight.isascii() and len(weight) <= MOST_DIGITS
        if not (sign and is_number) or queue in found:
            text = f"{share!r:.100} is no weight; write each queue once: mail=3"
            raise click.UsageError(text, ctx)
        found[queue] = int(weight)
    return found
