"""`asyncjobs dead retry` and `dead purge`: run dead jobs again, or delete them."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NamedTuple

import click

from asyncjobs.cli.dead.filters import read_filters, read_ids, search_options
from asyncjobs.cli.dead.letters import Filters, find, search
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import ask, fail, refusals, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.batches import cut
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import gate_in, unique_in
from asyncjobs.model.job import Priority
from asyncjobs.model.outcome import revived
from asyncjobs.model.refs import JobRef
from asyncjobs.store.letters import MAX_PAGE_BYTES, LetterKey, Revival, Revived
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["purge", "retry"]

STEP: Final = 500
"""Letters in one call to the store, if they are small."""
MOST_NAMED: Final = 10
"""At most this many jobs are named in a message."""
_EPILOG = """\b
Exit codes:
  0  done, even if others did some of it meanwhile, or if there was nothing to do
  1  an ID is not a dead job, or some could not be retried; you answered no; the
     store failed
  2  wrong usage or configuration; no terminal to ask on, and no --yes
  3  the store cannot be reached, or has another layout
"""
_PURGE_EPILOG: Final = _EPILOG.replace(", or some could not be retried", "")


class _Target(NamedTuple):
    """A dead letter that the command is about."""

    key: LetterKey
    size: int


@dataclass(slots=True)
class _Tally:
    """What has become of the letters so far."""

    done: int = 0
    gone: int = 0
    """Letters that others have retried, purged or pruned meanwhile."""
    taken: list[JobRef] = field(default_factory=list)
    """Jobs whose id a living job has."""
    held: list[tuple[JobRef, JobRef]] = field(default_factory=list)
    """Jobs whose unique key another job holds, and that job."""
    unreadable: list[JobRef] = field(default_factory=list)
    refused: dict[str, StoreError] = field(default_factory=dict)
    """Queues that the store could not change."""
    skipped: int = 0
    """Letters of the queues in `refused`."""

    @property
    def seen(self) -> int:
        """How many letters have been handled."""
        left_alone = len(self.taken) + len(self.held) + len(self.unreadable)
        return self.done + self.gone + left_alone + self.skipped

    @property
    def is_partial(self) -> bool:
        """Whether some letters should have been changed and were not."""
        return bool(self.taken or self.held or self.unreadable or self.refused)


@dataclass(frozen=True, slots=True)
class _Change:
    """One of the two commands: its words, and how it changes a batch of letters."""

    verb: str
    past: str
    act: Callable[[Backend, Sequence[_Target], _Tally], Awaitable[None]]


def _choice(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments and flags of both commands."""
    options = (
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        search_options,
        click.option("--all", "all_", is_flag=True, help="Choose all dead jobs of all queues."),
        click.option("--yes", is_flag=True, help="Do not ask before changing more than one job."),
        click.option("--dry-run", is_flag=True, help="Count the jobs and change nothing."),
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
    help="Give the jobs this priority. By default they keep their own.",
)
@_choice
def retry(ctx: click.Context, /, priority: str | None, **flags: Any) -> None:
    """Run dead jobs again, the oldest first.

    Choose them by ID (queue/id, or the id alone), by filters, or with --all. Each job starts at
    attempt 1 with its old arguments, and keeps its earlier errors. Asks before it changes more than
    one job. Does not import the app.
    """
    new_priority = None
    if priority is not None:
        new_priority = Priority[priority.upper()]

    async def act(store: Backend, targets: Sequence[_Target], tally: _Tally) -> None:
        await _retry(store, targets, tally, new_priority)

    _run(ctx, _Change("retry", "retried", act), flags)


@click.command(epilog=_PURGE_EPILOG)
@_choice
def purge(ctx: click.Context, /, **flags: Any) -> None:
    """Delete dead jobs with their arguments and errors, for good.

    Choose them by ID (queue/id, or the id alone), by filters, or with --all. Asks before it deletes
    more than one job. Does not import the app.
    """
    _run(ctx, _Change("purge", "purged", _purge), flags)


async def _retry(
    store: Backend, targets: Sequence[_Target], tally: _Tally, priority: Priority | None
) -> None:
    letters = await store.dead.find([target.key.ref for target in targets])
    revivals = []
    for target, letter in zip(targets, letters, strict=True):
        # The key contains the time of death. Another time means that the job has run again and died
        # again since it was chosen: the user has not chosen that death.
        if letter is None or letter.key != target.key:
            tally.gone += 1
            continue
        try:
            envelope = revived(letter.letter, now_ms())
            # A unique job has to hold its key again, and one with limits to pass its gate.
            own = unique_in(envelope), gate_in(envelope)
            revivals.append(Revival(target.key, envelope, *own))
        except BadRecord:
            tally.unreadable.append(target.key.ref)
    # The store compares the keys once more: a letter may have gone since it was found above.
    verdicts = await store.dead.revive(revivals, priority=priority)
    for revival, verdict in zip(revivals, verdicts, strict=True):
        if verdict.holder is not None:
            tally.held.append((revival.key.ref, verdict.holder))
        elif verdict == Revived.TAKEN:
            tally.taken.append(revival.key.ref)
    tally.done += verdicts.count(Revived.READY)
    tally.gone += verdicts.count(Revived.GONE)


async def _purge(store: Backend, targets: Sequence[_Target], tally: _Tally) -> None:
    dropped = await store.dead.purge([target.key for target in targets])
    tally.done += dropped.count(True)
    tally.gone += dropped.count(False)


def _run(ctx: click.Context, change: _Change, flags: dict[str, Any]) -> None:
    url, prefix, as_json = (flags.pop(name) for name in ("url", "prefix", "as_json"))
    ids = read_ids(ctx, flags["ids"])
    filters = read_filters(ctx, flags)
    _check_choice(ctx, change, ids, filters, all_=flags["all_"])

    async def question(store: Backend, info: StoreInfo) -> int:
        targets, missing = await _targets(store, ids, filters)
        for problem in missing:
            click.echo(f"Error: {line(problem)}", err=True)
        code = ExitCode.failed_if(missing)
        tally = _Tally()
        found = {"found": len(targets), "errors": missing, "dry_run": flags["dry_run"]}
        if not flags["dry_run"] and targets:
            # One job that was named is meant. More than one may be a filter that matched too much.
            if not flags["yes"] and len(targets) > 1:
                jobs = count(len(targets), "dead job")
                if not can_ask():
                    return fail(ExitCode.USAGE, _cannot_ask(change, jobs), as_json=as_json)
                if not confirm(f"{change.verb.capitalize()} {jobs}?"):
                    click.echo(f"nothing was {change.past}", err=True)
                    return ExitCode.FAILED
            await _work(store, change, targets, tally)
        if as_json:
            show_json(found | _counted(change, tally))
        elif targets or not missing:
            click.echo(_summary(change, targets, tally, dry_run=flags["dry_run"]))
        _show_rest(tally)
        if tally.is_partial:
            return ExitCode.FAILED
        return code

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _check_choice(
    ctx: click.Context, change: _Change, ids: list[str], filters: Filters, *, all_: bool
) -> None:
    names = "--queue, --function, --reason, --error, --message, --since, --before"
    # With IDs, --queue says where to look for them. All other filters would contradict them.
    if ids and (all_ or Filters(filters.queues) != filters):
        raise click.UsageError(
            "give IDs, or filters, or --all, but not two of them (--queue may be given with IDs)",
            ctx,
        )
    if all_ and not filters.accept_all:
        raise click.UsageError("--all means every dead job; leave out --all or the filters", ctx)
    if not ids and not all_ and filters.accept_all:
        raise click.UsageError(
            f"which dead jobs? Give IDs, filters ({names}) or --all; asyncjobs dead list "
            f"shows the jobs to {change.verb}",
            ctx,
        )


async def _targets(
    store: Backend, ids: list[str], filters: Filters
) -> tuple[list[_Target], list[str]]:
    """The letters that the user chose, and for each ID without one the reason."""
    # Keeps each letter once: two IDs may name the same one, with its queue and without.
    targets: dict[_Target, None] = {}
    missing = []
    for job_id in ids:
        letter = await find(store, job_id, filters.queues, cut=0)
        if isinstance(letter, str):
            missing.append(letter)
        else:
            targets[_Target(letter.key, letter.size)] = None
    # All of them are listed before the first one is changed: what dies meanwhile was not chosen,
    # and the question can say how many there are.
    if not ids:
        for queue in filters.queues or await store.inspect.queues.names():
            try:
                async for found in search(store, filters, queue, oldest_first=True):
                    for each in found.letters:
                        targets[_Target(each.key, each.size)] = None
            except StoreUnavailable:
                # That is no fault of this queue: the others would fail in the same way.
                raise
            except StoreError as error:
                missing.append(f"queue {queue!r} cannot be read: {error}")
    return list(targets), missing


def _cannot_ask(change: _Change, jobs: str) -> str:
    return (
        f"this would {change.verb} {jobs}, and there is no terminal to ask on; add --yes to do it, "
        "or --dry-run to count the jobs"
    )


async def _work(store: Backend, change: _Change, targets: Sequence[_Target], tally: _Tally) -> None:
    # One step is over before anybody could read its progress.
    shows = len(targets) > STEP and sys.stderr.isatty()
    try:
        for queue, step in _steps(targets):
            try:
                await change.act(store, step, tally)
            except StoreUnavailable:
                raise
            except StoreError as error:
                # A key of the wrong type, for example. The other queues can still be changed.
                tally.refused[queue] = error
                tally.skipped += len(step)
            if shows:
                end = ""
                if tally.seen == len(targets):
                    end = "\n"
                click.echo(f"\r{tally.seen:,} of {len(targets):,}{end}", nl=False, err=True)
    except BaseException:
        # Ctrl-C, or the store is away. What was done stays done, so the command can be repeated.
        click.echo(
            f"stopped: {change.past} {tally.done:,} of {count(len(targets), 'dead job')}; "
            "run the same command again for the rest",
            err=True,
        )
        raise


def _steps(targets: Sequence[_Target]) -> Iterator[tuple[str, list[_Target]]]:
    """Each queue with a batch of its letters, small enough for one call that reads them all."""
    for queue, group in groupby(targets, key=lambda target: target.key.ref.queue):
        own = list(group)
        for places in cut([each.size for each in own], most=STEP, most_bytes=MAX_PAGE_BYTES):
            yield queue, [own[place] for place in places]


def _counted(change: _Change, tally: _Tally) -> dict[str, Any]:
    counted: dict[str, Any] = {change.past: tally.done, "gone": tally.gone}
    if change.verb == "retry":
        counted["id_taken"] = list(map(str, tally.taken))
        counted["key_taken"] = {str(job): str(holder) for job, holder in tally.held}
        counted["unreadable"] = list(map(str, tally.unreadable))
    return counted


def _summary(change: _Change, targets: Sequence[_Target], tally: _Tally, *, dry_run: bool) -> str:
    if not targets:
        return f"no dead job to {change.verb}"
    if dry_run:
        return f"would {change.verb} {count(len(targets), 'dead job')}"
    return f"{change.past} {count(tally.done, 'dead job')}"


def _show_rest(tally: _Tally) -> None:
    if tally.gone:
        gone = count(tally.gone, "dead job")
        click.echo(f"{gone} disappeared meanwhile: retried, purged or pruned by others", err=True)
    for problem in refusals(tally.refused):
        click.echo(problem, err=True)
    for refs, why in (
        (tally.taken, "a living job has the id; wait until it has ended, or purge the dead one"),
        (
            [f"{job} (held by {holder})" for job, holder in tally.held],
            "another job holds the unique key; wait until it has ended, or cancel it",
        ),
        (tally.unreadable, "what is stored is not a dead letter; look at it with dead show"),
    ):
        if refs:
            # Ids of thousands of jobs would push the summary off the screen. JSON has them all.
            names = ", ".join(map(str, refs[:MOST_NAMED]))
            if len(refs) > MOST_NAMED:
                names += ", ..."
            click.echo(
                line(f"Error: {count(len(refs), 'job')} not retried: {why}: {names}"), err=True
            )
