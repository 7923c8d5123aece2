"""`asyncjobs check`: does the store answer, and does every queue with jobs have a worker?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, Final

import click
from click import unstyle

from asyncjobs.cli.check.schedules import look_at_schedules
from asyncjobs.cli.queues.chosen import describe_pauses, pauses_of
from asyncjobs.cli.shared.render import Part, Table, clean, line, paint, show, show_json
from asyncjobs.cli.shared.store_command import ask, describe_store, store_options
from asyncjobs.cli.shared.values import count
from asyncjobs.client.queues import QueuePause
from asyncjobs.host.exits import ExitCode
from asyncjobs.model.clock import now_ms
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.store.apart import apart
from asyncjobs.store.inspect import QueueCounts
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["check"]

MOST_EXAMINED: Final = 100
"""How many scheduled jobs of a queue are examined, those due first. A put-back lasts a minute at
most, so jobs that workers have put back are among the first."""
MOST_CHARACTERS: Final = 100
"""How much of a function's name is shown: anybody who can write to the store may have chosen it."""
_EPILOG = """\b
Exit codes:
  0  healthy: the store answers, every queue can be read, every queue with jobs is paused
     or has a live worker, and no schedule is late
  1  unhealthy
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command(epilog=_EPILOG)
@store_options
@click.pass_context
def check(ctx: click.Context, /, url: str | None, prefix: str, *, as_json: bool) -> None:
    """Check that the store answers, that every queue with jobs has a worker, and that schedules
    fire.

    Does not import the app.
    """

    async def question(store: Backend, info: StoreInfo) -> int:
        # A queue that cannot be read must not hide the others.
        found = await apart(store.inspect.queues.counts, await store.inspect.queues.names())
        queues = list(found.answers.values())
        pauses, _ = await pauses_of(store, [queue.queue for queue in queues])
        paused = {queue for queue, own in pauses.items() if any(map(_is_of_all, own))}
        alone = [queue for queue in queues if _is_left_alone(queue, paused)]
        problems = [_problem(queue) for queue in alone]
        problems += [f"queue {name!r} cannot be read: {why}" for name, why in found.refused.items()]
        warnings = await _put_back(store, [queue.queue for queue in queues if queue.scheduled])
        warnings += map(unstyle, describe_pauses(pauses))
        late = await look_at_schedules(store)
        problems += late.problems
        warnings += late.warnings
        info = info._replace(warnings=(*info.warnings, *warnings))
        if as_json:
            show_json(_fields(info, queues, paused, problems))
        else:
            show(*_parts(info, queues, paused, problems))
        return ExitCode.failed_if(problems)

    # A store that refuses us is unhealthy. To other commands it is wrong configuration.
    ctx.exit(ask(url, prefix, question, as_json=as_json, refused=ExitCode.FAILED, healthy=False))


async def _put_back(store: Backend, queues: Sequence[str]) -> list[str]:
    """A warning for each queue whose workers put jobs back: how many, and of which functions."""

    async def look(some: Sequence[str]) -> list[list[bytes]]:
        return await store.inspect.queues.put_back(some, MOST_EXAMINED)

    warnings = []
    for queue, envelopes in (await apart(look, queues)).answers.items():
        names = Counter(filter(None, map(_name_of_put_back, envelopes)))
        if names:
            functions = ", ".join(f"{name} ({number:,})" for name, number in names.most_common(3))
            warnings.append(
                f"queue {queue!r}: workers put back at least {count(names.total(), 'job')}, "
                f"because they do not have the function: {functions}; deploy a worker that has "
                "it. The workers' log names functions with similar names"
            )
    return warnings


def _name_of_put_back(raw: bytes) -> str | None:
    """The function of a job that was put back; None for any other scheduled job."""
    try:
        envelope = Envelope.decode(raw)
    except NewerEnvelope:
        return "of a newer release"
    except BadRecord:
        return None
    if not envelope.headers.put_back(now_ms()).times:
        return None
    return clean(envelope.name)[:MOST_CHARACTERS]


def _held(queue: QueueCounts) -> int:
    """How many jobs still have to run or to finish."""
    return sum(queue.ready) + queue.running + queue.scheduled


def _is_left_alone(queue: QueueCounts, paused: Collection[str]) -> bool:
    # What waits in a paused queue is meant to wait. What ran when its worker died is not.
    jobs = queue.running if queue.queue in paused else _held(queue)
    return jobs > 0 and queue.workers == 0


def _is_of_all(pause: QueuePause) -> bool:
    """Whether the whole queue is paused by this."""
    return pause.function is None and not pause.is_resuming


def _problem(queue: QueueCounts) -> str:
    return (
        f"queue {queue.queue!r} holds {count(_held(queue), 'job')} and has no live worker; start "
        f"one: asyncjobs worker APP --queues {clean(queue.queue)}"
    )


def _fields(
    info: StoreInfo,
    queues: Sequence[QueueCounts],
    paused: Collection[str],
    problems: Sequence[str],
) -> dict[str, Any]:
    return {
        "healthy": not problems,
        "store": {
            "name": info.name,
            "version": info.version,
            "address": info.address,
            "embedded": info.address.startswith("embedded:"),
        },
        "queues": [
            {
                "queue": queue.queue,
                "ready": sum(queue.ready),
                "running": queue.running,
                "scheduled": queue.scheduled,
                "dead": queue.dead,
                "workers": queue.workers,
                "healthy": not _is_left_alone(queue, paused),
                "paused": queue.queue in paused,
            }
            for queue in queues
        ],
        "warnings": list(info.warnings),
        "problems": list(problems),
    }


def _parts(
    info: StoreInfo,
    queues: Sequence[QueueCounts],
    paused: Collection[str],
    problems: Sequence[str],
) -> list[Part]:
    parts: list[Part] = [f"store: {describe_store(info)}"]
    parts += [f"{paint('warning', 'yellow')}: {line(warning)}" for warning in info.warnings]
    if queues:
        columns = ("queue", "ready", "running", "scheduled", "dead", "workers", "state")
        parts.append(
            Table(
                columns,
                [_row(queue, paused) for queue in queues],
                numbers=frozenset(columns[1:6]),
            )
        )
    elif not problems:
        parts.append("no queue yet: nothing was enqueued, and no worker has started")
    parts += [f"{paint('problem', 'red')}: {line(problem)}" for problem in problems]
    if problems:
        parts.append(paint("unhealthy", "red"))
    else:
        parts.append(paint("healthy", "green"))
    return parts


def _row(queue: QueueCounts, paused: Collection[str]) -> tuple[str, ...]:
    numbers = (sum(queue.ready), queue.running, queue.scheduled, queue.dead, queue.workers)
    state = paint("ok", "green")
    if queue.queue in paused:
        state = paint("paused", "yellow")
    if _is_left_alone(queue, paused):
        state = paint("no worker", "red")
    return (clean(queue.queue), *map(str, numbers), state)
