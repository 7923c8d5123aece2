"""`asyncjobs dead retry` and `dead purge`: what is done with dead jobs, few or many."""

from __future__ import annotations

import signal
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import click

from asyncjobs.cli.dead.filters import read_ids, read_wanted, wanted_options
from asyncjobs.cli.dead.letters import Wanted, find, look_for
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import ask, fail, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.job import JobRef, Priority
from asyncjobs.model.outcome import revived
from asyncjobs.store.letters import MAX_PAGE_BYTES, LetterKey, Revival, Revived
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["purge", "retry"]

STEP: Final = 500
"""Letters in one trip to the store, if they are small."""
MOST_NAMED: Final = 10
"""Jobs that are named where many may be meant."""
_EPILOG = """\b
Exit codes:
  0  done, also if others did some of it meanwhile, or if there was nothing to do
  1  an ID is not a dead job, or some could not be retried; you answered no; the
     store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""
_PURGE_EPILOG: Final = _EPILOG.replace(", or some could not be retried", "")


class _Target(NamedTuple):
    key: LetterKey
    size: int


@dataclass(slots=True)
class _Tally:
    """What became of the letters so far."""

    done: int = 0
    gone: int = 0
    taken: list[JobRef] = field(default_factory=list)
    unreadable: list[JobRef] = field(default_factory=list)

    refused: dict[str, StoreError] = field(default_factory=dict)
    skipped: int = 0
    """Letters of queues that refused."""

    @property
    def seen(self) -> int:
        """How many letters have been looked at."""
        return self.done + self.gone + len(self.taken) + len(self.unreadable) + self.skipped

    @property
    def is_partial(self) -> bool:
        """Whether something was not done that should have been."""
        return bool(self.taken or self.unreadable or self.refused)


@dataclass(frozen=True, slots=True)
class _Errand:
    """One of the two commands: its words, and what it does with a few letters."""

    verb: str
    past: str
    act: Callable[[Backend, Sequence[_Target], _Tally], Awaitable[None]]


def _choice(command: Callable[..., Any]) -> Callable[..., Any]:
    """ID..., the filters and what both commands ask before they do anything."""
    options = (
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        wanted_options,
        click.option("--all", "all_", is_flag=True, help="Choose all dead jobs of all queues."),
        click.option("--yes", is_flag=True, help="Do not ask before changing more than one."),
        click.option("--dry-run", is_flag=True, help="Only count the jobs."),
        store_options,
        click.pass_context,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog=_EPILOG)
@click.option(
    "--priority",
    type=click.Choice([priority.name.lower() for priority in Priority]),
    help="Give the jobs this priority instead of their own.",
)
@_choice
def retry(ctx: click.Context, /, priority: str | None, **flags: Any) -> None:
    """Run dead jobs again, the oldest first.

    Choose them by ID (queue/id, or the id alone), by filters, or with --all. Each job starts at
    attempt 1 with its old arguments, and keeps the errors it had. Asks before it changes more than
    one. Does not import the app.
    """
    wanted = None if priority is None else Priority[priority.upper()]

    async def act(store: Backend, targets: Sequence[_Target], tally: _Tally) -> None:
        await _retry(store, targets, tally, wanted)

    _run(ctx, _Errand("retry", "retried", act), flags)


@click.command(epilog=_PURGE_EPILOG)
@_choice
def purge(ctx: click.Context, /, **flags: Any) -> None:
    """Delete dead jobs with their arguments and errors, for good.

    Choose them by ID (queue/id, or the id alone), by filters, or with --all. Asks before it deletes
    more than one. Does not import the app.
    """
    _run(ctx, _Errand("purge", "purged", _purge), flags)


async def _retry(
    store: Backend, targets: Sequence[_Target], tally: _Tally, priority: Priority | None
) -> None:
    letters = await store.dead.find([target.key.ref for target in targets])
    revivals = []
    for target, letter in zip(targets, letters, strict=True):
        if letter is None or letter.key != target.key:
            tally.gone += 1
            continue
        try:
            revivals.append(Revival(target.key, revived(letter.letter, now_ms())))
        except BadRecord:
            tally.unreadable.append(target.key.ref)
    verdicts = await store.dead.revive(revivals, priority=priority)
    for revival, verdict in zip(revivals, verdicts, strict=True):
        if verdict is Revived.TAKEN:
            tally.taken.append(revival.key.ref)
    tally.done += verdicts.count(Revived.READY)
    tally.gone += verdicts.count(Revived.GONE)


async def _purge(store: Backend, targets: Sequence[_Target], tally: _Tally) -> None:
    dropped = await store.dead.purge([target.key for target in targets])
    tally.done += dropped.count(True)
    tally.gone += dropped.count(False)


def _run(ctx: click.Context, errand: _Errand, flags: dict[str, Any]) -> None:
    url, prefix, as_json = (flags.pop(name) for name in ("url", "prefix", "as_json"))
    ids = read_ids(ctx, flags["ids"])
    wanted = read_wanted(ctx, flags)
    _check_choice(ctx, errand, ids, wanted, all_=flags["all_"])

    async def question(store: Backend, info: StoreInfo) -> int:
        targets, missing = await _targets(store, ids, wanted)
        for problem in missing:
            click.echo(f"Error: {line(problem)}", err=True)
        code = ExitCode.failed_if(missing)
        tally = _Tally()
        told = {"found": len(targets), "errors": missing, "dry_run": flags["dry_run"]}
        if not flags["dry_run"] and targets:
            if not flags["yes"] and len(targets) > 1:
                if not sys.stdin.isatty():
                    return fail(ExitCode.USAGE, _nobody(errand, targets), as_json=as_json)
                if not _confirm(errand, targets):
                    click.echo(f"nothing was {errand.past}", err=True)
                    return ExitCode.FAILED
            await _work(store, errand, targets, tally)
        if as_json:
            show_json(told | _counted(errand, tally))
        elif targets or not missing:
            click.echo(_summary(errand, targets, tally, dry_run=flags["dry_run"]))
        _tell_rest(tally)
        if tally.is_partial:
            return ExitCode.FAILED
        return code

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _check_choice(
    ctx: click.Context, errand: _Errand, ids: list[str], wanted: Wanted, *, all_: bool
) -> None:
    filters = "--queue, --function, --reason, --error, --message, --since, --before"
    if ids and (all_ or Wanted(wanted.queues) != wanted):
        raise click.UsageError(
            "give IDs, or filters, or --all, but not two of them (--queue may be given with IDs)",
            ctx,
        )
    if all_ and not wanted.is_all:
        raise click.UsageError("--all means every dead job; leave out --all or the filters", ctx)
    if not ids and not all_ and wanted.is_all:
        raise click.UsageError(
            f"which dead jobs? Give IDs, filters ({filters}) or --all; asyncjobs dead list "
            f"shows the jobs to {errand.verb}",
            ctx,
        )


async def _targets(
    store: Backend, ids: list[str], wanted: Wanted
) -> tuple[list[_Target], list[str]]:
    """The letters that are meant, and for each ID without one why."""
    targets: dict[_Target, None] = {}
    missing = []
    for job_id in ids:
        letter = await find(store, job_id, wanted.queues, cut=0)
        if isinstance(letter, str):
            missing.append(letter)
        else:
            targets[_Target(letter.key, letter.size)] = None
    if not ids:
        for queue in wanted.queues or await store.inspect.queues.names():
            try:
                async for found in look_for(store, wanted, queue, oldest_first=True):
                    targets.update({_Target(told.key, told.size): None for told in found.told})
            except StoreUnavailable:
                raise
            except StoreError as error:
                missing.append(f"queue {queue!r} cannot be read: {error}")
    return list(targets), missing


def _nobody(errand: _Errand, targets: Sequence[_Target]) -> str:
    return (
        f"this would {errand.verb} {count(len(targets), 'dead job')}, and there is no terminal to "
        "ask on; add --yes to do it, or --dry-run to count the jobs"
    )


def _confirm(errand: _Errand, targets: Sequence[_Target]) -> bool:
    # The loop's own handler would only note a Ctrl-C, and the prompt would go on waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(
            f"{errand.verb.capitalize()} {count(len(targets), 'dead job')}?", err=True
        )
    finally:
        signal.signal(signal.SIGINT, before)


async def _work(store: Backend, errand: _Errand, targets: Sequence[_Target], tally: _Tally) -> None:
    shows = len(targets) > STEP and sys.stderr.isatty()
    try:
        for step in _steps(targets):
            queue = step[0].key.ref.queue
            try:
                await errand.act(store, step, tally)
            except StoreUnavailable:
                raise
            except StoreError as error:
                # A key of a wrong type, say: the other queues are not the worse for it.
                tally.refused[queue] = error
                tally.skipped += len(step)
            if shows:
                end = "\n" if tally.seen == len(targets) else ""
                click.echo(f"\r{tally.seen:,} of {len(targets):,}{end}", nl=False, err=True)
    except BaseException:
        # Ctrl-C, or the store is away: what was done stays done, and may be gone on with.
        click.echo(
            f"stopped: {errand.past} {tally.done:,} of {count(len(targets), 'dead job')}; "
            "run the same command again for the rest",
            err=True,
        )
        raise


def _steps(targets: Sequence[_Target]) -> Iterator[list[_Target]]:
    """Of one queue each, few and small enough for one trip, whether they are read or only
    named."""
    step: list[_Target] = []
    size = 0
    for target in targets:
        is_full = len(step) == STEP or size + target.size > MAX_PAGE_BYTES
        if step and (is_full or step[0].key.ref.queue != target.key.ref.queue):
            yield step
            step = []
            size = 0
        step.append(target)
        size += target.size
    if step:
        yield step


def _counted(errand: _Errand, tally: _Tally) -> dict[str, Any]:
    counted: dict[str, Any] = {errand.past: tally.done, "gone": tally.gone}
    if errand.verb == "retry":
        counted["id_taken"] = list(map(str, tally.taken))
        counted["unreadable"] = list(map(str, tally.unreadable))
    return counted


def _summary(errand: _Errand, targets: Sequence[_Target], tally: _Tally, *, dry_run: bool) -> str:
    if not targets:
        return f"no dead job to {errand.verb}"
    if dry_run:
        return f"would {errand.verb} {count(len(targets), 'dead job')}"
    return f"{errand.past} {count(tally.done, 'dead job')}"


def _tell_rest(tally: _Tally) -> None:
    if tally.gone:
        gone = count(tally.gone, "dead job")
        click.echo(f"{gone} disappeared meanwhile: retried, purged or pruned by others", err=True)
    for problem in refusals(tally.refused):
        click.echo(problem, err=True)
    for refs, why in (
        (tally.taken, "a living job has the id; wait until it has ended, or purge the dead one"),
        (tally.unreadable, "what is stored is not a dead letter; look at it with dead show"),
    ):
        if refs:
            names = ", ".join(map(str, refs[:MOST_NAMED]))
            if len(refs) > MOST_NAMED:
                names += ", ..."
            click.echo(
                line(f"Error: {count(len(refs), 'job')} not retried: {why}: {names}"), err=True
            )
