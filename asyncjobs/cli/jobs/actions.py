"""`asyncjobs jobs cancel`, `retry`, `delete` and `run-now`: act on jobs by ID or by filters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import click

from asyncjobs.cli.dead.filters import read_ids
from asyncjobs.cli.jobs.filters import ACTION_STATE, Filters, filter_options, read_filters
from asyncjobs.cli.shared.confirm import can_ask, confirm
from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.cli.shared.store_command import (
    ask,
    each_by_itself,
    fail,
    refusals,
    store_options,
)
from asyncjobs.cli.shared.values import count
from asyncjobs.errors import StoreError, StoreUnavailable
from asyncjobs.guard.texts import in_queues
from asyncjobs.host.exits import ExitCode
from asyncjobs.jobs import acting
from asyncjobs.jobs.acting import ActionVerdict, Chosen
from asyncjobs.jobs.readings import read_job_name
from asyncjobs.model.batches import pieces
from asyncjobs.model.job import JobRecord, State
from asyncjobs.options.app import AppSettings
from asyncjobs.store.changes import Target
from asyncjobs.store.listing import MOST_LISTED
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["cancel", "delete", "find_record", "retry", "run_now"]

STEP: Final = 500
MOST_NAMED: Final = 10
"""At most this many jobs are named in a message."""
_EPILOG: Final = """\b
Exit codes:
  0  done, even if others did some of it meanwhile, or if there was nothing to do
  1  an ID is no such job, or some were left alone; you answered no; the store failed
  2  wrong usage or configuration; more jobs than --most; no terminal to ask on, and
     no --yes
  3  the store cannot be reached, or has another layout
"""
_WHY: Final = {
    ActionVerdict.RUNNING: "a worker runs them; asyncjobs jobs cancel asks it to stop",
    ActionVerdict.KEY_TAKEN: "another job holds its unique key; asyncjobs unique list says which",
    ActionVerdict.ID_TAKEN: "a living job has the id; wait until it has ended",
    ActionVerdict.UNREADABLE: "what is stored cannot be read; look at it with dead show",
    ActionVerdict.HELD: "they wait for the ends of other jobs",
    ActionVerdict.WAITING: "they wait, and have not failed",
}


@dataclass(frozen=True, slots=True)
class _Action:
    """One of the commands: its words, the states that it is for, and what it does to a few jobs.

    `failed_only`: of scheduled jobs, only those that have failed before.
    """

    verb: str
    past: str
    states: tuple[State, ...]
    act: Callable[[Backend, Sequence[Chosen]], Awaitable[list[ActionVerdict]]]
    failed_only: bool = False


@dataclass(slots=True)
class _Tally:
    """What has become of the jobs so far."""

    verdicts: Counter[ActionVerdict] = field(default_factory=Counter)
    left: dict[ActionVerdict, list[str]] = field(default_factory=dict)
    """Jobs that were left alone, by the reason."""
    refused: dict[str, StoreError] = field(default_factory=dict)
    """Queues that the store could not change."""


def _choice(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the arguments and flags of all these commands."""
    options = (
        click.argument("ids", nargs=-1, metavar="[ID]..."),
        click.option(
            "--state", type=ACTION_STATE, help="Choose jobs in this state, by the filters."
        ),
        filter_options,
        click.option(
            "--all-matching",
            is_flag=True,
            help="With --state and no filter: choose all jobs in that state.",
        ),
        click.option(
            "--most",
            type=click.IntRange(min=1),
            default=10_000,
            show_default=True,
            metavar="N",
            help="Do nothing if there are more jobs than this.",
        ),
        click.option("--yes", is_flag=True, help="Do not ask before changing more than one job."),
        click.option("--dry-run", is_flag=True, help="Count the jobs and change nothing."),
        store_options,
        click.pass_context,
    )
    for option in reversed(options):
        command = option(command)
    return command


@click.command(epilog=_EPILOG)
@_choice
def cancel(ctx: click.Context, /, **flags: Any) -> None:
    """Cancel jobs: waiting ones will not run, and workers are asked to stop running ones.

    Choose them by ID (queue/id, or the id alone), or by --state and filters. Asks before it
    cancels more than one job. Does not import the app.
    """
    ttl_ms = AppSettings.of(prefix=flags["prefix"]).result_ttl_ms

    async def act(store: Backend, chosen: Sequence[Chosen]) -> list[ActionVerdict]:
        return await acting.cancel(store, chosen, ttl_ms)

    states = (State.READY, State.SCHEDULED, State.HELD, State.RUNNING)
    _run(ctx, _Action("cancel", "cancelled", states, act), flags)


@click.command(epilog=_EPILOG)
@_choice
def retry(ctx: click.Context, /, **flags: Any) -> None:
    """Run dead jobs again, and at once those that wait for an attempt after a failure.

    Choose them by ID (queue/id, or the id alone), or by --state dead or scheduled and filters.
    Asks before it retries more than one job. Does not import the app.
    """
    states = (State.DEAD, State.SCHEDULED)
    _run(ctx, _Action("retry", "retried", states, acting.retry, failed_only=True), flags)


@click.command(epilog=_EPILOG)
@_choice
def delete(ctx: click.Context, /, **flags: Any) -> None:
    """Delete dead jobs and jobs that wait, for good. A running job is never deleted.

    Nothing is left of a job that waited: its id may be used again, and who waits for its result
    hears that there is no such job. Choose jobs by ID (queue/id, or the id alone), or by --state
    and filters. Asks before it deletes more than one job. Does not import the app.
    """
    states = (State.DEAD, State.READY, State.SCHEDULED, State.HELD)
    _run(ctx, _Action("delete", "deleted", states, acting.delete), flags)


@click.command("run-now", epilog=_EPILOG)
@_choice
def run_now(ctx: click.Context, /, **flags: Any) -> None:
    """Make scheduled jobs ready, before their time.

    Choose them by ID (queue/id, or the id alone), or by --state scheduled and filters. Asks before
    it starts more than one job. Does not import the app.
    """
    _run(ctx, _Action("run", "made ready", (State.SCHEDULED,), acting.run_now), flags)


def _run(ctx: click.Context, action: _Action, flags: dict[str, Any]) -> None:
    url, prefix, as_json = (flags.pop(name) for name in ("url", "prefix", "as_json"))
    ids = read_ids(ctx, flags["ids"])
    state = None
    if flags["state"] is not None:
        state = State(flags["state"])
    filters = read_filters(ctx, flags, state)
    _check_choice(ctx, action, ids, state, filters, all_=flags["all_matching"])

    async def question(store: Backend, info: StoreInfo) -> int:
        tally = _Tally()
        problems: list[str] = []
        if state is None:
            chosen = await _by_ids(store, ids, filters.queues, problems)
        else:
            chosen = await _by_filters(store, action, state, filters, flags["most"], tally)
        for problem in problems:
            click.echo(f"Error: {line(problem)}", err=True)
        if len(chosen) > flags["most"]:
            return fail(ExitCode.USAGE, _too_many(flags["most"]), as_json=as_json)
        if not flags["dry_run"] and chosen:
            # One job that was named is meant. More than one may be a filter that matched too much.
            if not flags["yes"] and len(chosen) > 1:
                jobs = count(len(chosen), f"{state} job" if state else "job")
                if not can_ask():
                    return fail(ExitCode.USAGE, _cannot_ask(action, jobs), as_json=as_json)
                if not confirm(f"{action.verb.capitalize()} {jobs}?"):
                    click.echo(f"nothing was {action.past}", err=True)
                    return ExitCode.FAILED
            await _work(store, action, chosen, tally)
        _tell(action, chosen, problems, tally, as_json=as_json, dry_run=flags["dry_run"])
        # Who names a job means it: that it has ended is no success.
        is_missing = state is None and tally.verdicts[ActionVerdict.GONE]
        return ExitCode.failed_if(problems or is_missing or tally.left or tally.refused)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


def _check_choice(
    ctx: click.Context,
    action: _Action,
    ids: list[str],
    state: State | None,
    filters: Filters,
    *,
    all_: bool,
) -> None:
    # With IDs, --queue says where to look for them. All other filters would contradict them.
    if ids and (state or all_ or Filters(filters.queues) != filters):
        raise click.UsageError(
            "give IDs, or --state and filters, but not both (--queue may be given with IDs)", ctx
        )
    if ids:
        # Each of them says itself what may be done.
        return
    states = " or ".join(action.states)
    if state is None:
        raise click.UsageError(
            f"which jobs? Give IDs, or --state {states} with filters; asyncjobs jobs list shows "
            "them",
            ctx,
        )
    if state not in action.states:
        raise click.UsageError(f"--state {state}: this command is for {states} jobs", ctx)
    if all_ and not filters.accept_all:
        raise click.UsageError(
            "--all-matching means every job in that state; leave out the filters, or "
            "--all-matching",
            ctx,
        )
    # A filter that is missing in a script, because a variable was empty, must not change all jobs.
    if not all_ and filters.accept_all:
        raise click.UsageError(
            f"--state {state} alone would mean every {state} job: give filters, or --all-matching",
            ctx,
        )


async def find_record(store: Backend, job_id: str, queues: Sequence[str]) -> JobRecord | str:
    """The job that a user named, or the reason why there is none."""
    readings = read_job_name(job_id, await store.inspect.queues.names(), only=queues or None)
    found = await readings.find(each_by_itself(store.get))
    if len(found) == 1:
        return found[0]
    if found:
        places = ", ".join(str(record.ref) for record in found)
        return f"job id {job_id!r} stands for several jobs: {places}; write queue/id"
    where = "and no queue either"
    if names := queues or [ref.queue for ref in readings.refs]:
        where = in_queues(names)
    return f"no job {job_id!r} {where}; asyncjobs jobs list shows those that there are"


async def _by_ids(
    store: Backend, ids: list[str], queues: Sequence[str], problems: list[str]
) -> list[Chosen]:
    # Each job once: two IDs may name the same one, with its queue and without.
    chosen: dict[Chosen, None] = {}
    for job_id in ids:
        record = await find_record(store, job_id, queues)
        if isinstance(record, str):
            problems.append(record)
        else:
            chosen[acting.chosen_of(record.ref, record)] = None
    return list(chosen)


async def _by_filters(
    store: Backend, action: _Action, state: State, filters: Filters, most: int, tally: _Tally
) -> list[Chosen]:
    """The jobs that pass the filters, the oldest first; at most one more than `most`.

    All of them are listed before the first one is changed: what comes meanwhile was not chosen,
    and the question can say how many there are.
    """
    chosen: list[Chosen] = []
    query = await filters.query(store, state, oldest_first=True)
    query = query._replace(limit=MOST_LISTED)
    if action.failed_only and state is State.SCHEDULED and query.message is None:
        # Any text is in the text of an error: only jobs that have failed pass.
        query = query._replace(message="")
    after = None
    while len(chosen) <= most:
        page = await store.inspect.jobs.page(query, after)
        tally.refused.update(page.refused)
        # All of them have failed if only such were asked for.
        chosen += [Chosen(Target(job.ref, job.seen), state, has_failed=True) for job in page.jobs]
        after = page.after
        if after is None:
            break
    return chosen[: most + 1]


def _too_many(most: int) -> str:
    return (
        f"more than {count(most, 'job')} pass the filters, and nothing was changed; give closer "
        "filters, or raise --most"
    )


def _cannot_ask(action: _Action, jobs: str) -> str:
    return (
        f"this would {action.verb} {jobs}, and there is no terminal to ask on; add --yes to do it, "
        "or --dry-run to count the jobs"
    )


async def _work(store: Backend, action: _Action, chosen: Sequence[Chosen], tally: _Tally) -> None:
    try:
        for queue, step in _steps(chosen):
            try:
                verdicts = await action.act(store, step)
            except StoreUnavailable:
                raise
            except StoreError as error:
                # A key of the wrong type, for example. The other queues can still be changed.
                tally.refused[queue] = error
                continue
            # What was done stays done, also when a later step fails.
            tally.verdicts.update(verdicts)
            # A job that waits is where `run-now` wants it, while a retry has had no effect on it.
            for each, verdict in zip(step, verdicts, strict=True):
                is_done = verdict is ActionVerdict.WAITING and not action.failed_only
                if verdict in _WHY and not is_done:
                    tally.left.setdefault(verdict, []).append(str(each.ref))
    except BaseException:
        # Ctrl-C, or the store is away. What was done stays done, so the command can be repeated.
        done = tally.verdicts[ActionVerdict.DONE]
        click.echo(
            f"stopped: {action.past} {done:,} of {count(len(chosen), 'job')}; "
            "run the same command again for the rest",
            err=True,
        )
        raise


def _steps(chosen: Sequence[Chosen]) -> Iterator[tuple[str, Sequence[Chosen]]]:
    # Sorting is stable: within a queue the oldest stays the first.
    in_order = sorted(chosen, key=lambda each: each.ref.queue)
    for queue, group in groupby(in_order, key=lambda each: each.ref.queue):
        for step in pieces(list(group), STEP):
            yield queue, step


def _tell(
    action: _Action,
    chosen: Sequence[Chosen],
    problems: list[str],
    tally: _Tally,
    *,
    as_json: bool,
    dry_run: bool,
) -> None:
    """Say what has become of the jobs."""
    counted = {verdict.value: tally.verdicts[verdict] for verdict in ActionVerdict}
    if as_json:
        left = {verdict.value: jobs for verdict, jobs in tally.left.items()}
        refused = {queue: str(error) for queue, error in tally.refused.items()}
        found = {"found": len(chosen), "errors": problems, "dry_run": dry_run, **counted}
        show_json({**found, "left_alone": left, "refused": refused})
    elif chosen or not problems:
        click.echo(_summary(action, chosen, tally, dry_run=dry_run))
    gone = tally.verdicts[ActionVerdict.GONE] + tally.verdicts[ActionVerdict.MOVED]
    if gone:
        click.echo(f"{count(gone, 'job')} left alone: taken, changed or ended meanwhile", err=True)
    for problem in refusals(tally.refused):
        click.echo(problem, err=True)
    for verdict, jobs in tally.left.items():
        names = ", ".join(jobs[:MOST_NAMED])
        if len(jobs) > MOST_NAMED:
            names += ", ..."
        text = f"Error: {count(len(jobs), 'job')} not {action.past}: {_WHY[verdict]}: {names}"
        click.echo(line(text), err=True)


def _summary(action: _Action, chosen: Sequence[Chosen], tally: _Tally, *, dry_run: bool) -> str:
    if not chosen:
        return f"no job to {action.verb}"
    if dry_run:
        return f"would {action.verb} {count(len(chosen), 'job')}"
    text = f"{action.past} {count(tally.verdicts[ActionVerdict.DONE], 'job')}"
    if asked := tally.verdicts[ActionVerdict.REQUESTED]:
        text += f"; asked the workers of {count(asked, 'running job')} to stop"
    return text
