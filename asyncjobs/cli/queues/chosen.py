"""What the commands for queues share: names of queues, and what is paused."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.shared.render import ago, clean, line, paint
from asyncjobs.cli.shared.store_command import refusals
from asyncjobs.client.queues import QueuePause, Queues, read_pause
from asyncjobs.errors import RegistrationError, StoreError
from asyncjobs.guard.nearness import nearest
from asyncjobs.model.clock import now_ms
from asyncjobs.model.events import Events
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_function_name
from asyncjobs.store.apart import apart
from asyncjobs.store.seam import Backend

__all__ = [
    "describe_pause",
    "describe_pauses",
    "function_option",
    "one_queue",
    "pause_fields",
    "pauses_of",
    "queues_of",
    "tell_refused",
    "unknown",
]

F = TypeVar("F", bound=Callable[..., Any])
MOST_SHOWN: Final = 200


def queues_of(store: Backend) -> Queues:
    """`app.queues`, for commands that have no app."""
    return Queues(lambda: store, AppSettings.of(), Events())


def function_option(what: str) -> Callable[[F], F]:
    """Add --function, with this help."""
    return click.option(
        "--function", metavar="NAME", callback=_check_function, help=what, default=None
    )


def _check_function(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    try:
        return check_function_name(value, field="--function")
    except RegistrationError as error:
        raise click.UsageError(str(error), ctx) from None


def one_queue(ctx: click.Context, name: str) -> str:
    """Check the name. Raises click.UsageError."""
    (found,) = read_queues(ctx, (name,))
    return found


def unknown(name: str, known: Sequence[str]) -> str | None:
    """What is wrong with the name of a queue; None if the store knows it."""
    if name in known:
        return None
    if near := nearest(name, known):
        return f"no queue {name!r}; did you mean {near!r}?"
    return f"no queue {name!r}"


async def pauses_of(
    store: Backend, queues: Sequence[str]
) -> tuple[dict[str, list[QueuePause]], dict[str, StoreError]]:
    """What is paused in each queue, and the errors of those that cannot be read."""
    # Without the capability nothing can be paused, and commands that only look still work.
    if not store.capabilities.control:
        return {queue: [] for queue in queues}, {}
    found = await apart(store.control.queues.paused, queues)
    answers = {queue: list(map(read_pause, pauses)) for queue, pauses in found.answers.items()}
    return answers, dict(found.refused)


def describe_pause(pause: QueuePause) -> str:
    """`paused 5m ago by somebody: the reason`."""
    word = "resuming; was paused" if pause.is_resuming else "paused"
    # It is this machine's clock against the store's: where they differ, nothing is negative.
    age_s = max(now_ms() / 1000 - pause.since.timestamp(), 0)
    text = f"{word} {ago(age_s)} ago"
    if pause.by:
        text += f" by {clean(pause.by)[:MOST_SHOWN]}"
    if pause.reason:
        text += f": {clean(pause.reason)[:MOST_SHOWN]}"
    return line(text)


def pause_fields(pause: QueuePause) -> dict[str, Any]:
    """A pause as JSON."""
    return {
        "function": pause.function,
        "since": pause.since,
        "by": pause.by,
        "reason": pause.reason,
        "resuming": pause.is_resuming,
    }


def describe_pauses(pauses: Mapping[str, Sequence[QueuePause]]) -> list[str]:
    """A line for each queue or job function that is paused."""
    lines = []
    for queue, own in pauses.items():
        for pause in own:
            what = f"queue {queue!r}"
            if pause.function is not None:
                what += f", function {pause.function}"
            lines.append(f"{paint('paused', 'yellow')}: {line(f'{what}: {describe_pause(pause)}')}")
    return lines


def tell_refused(refused: dict[str, StoreError]) -> None:
    """A line on stderr for each queue that cannot be read."""
    for problem in refusals(refused):
        click.echo(problem, err=True)
