"""`asyncjobs queues pause` and `queues resume`."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import click

from asyncjobs.cli.dead.filters import read_queues
from asyncjobs.cli.queues.chosen import function_option, queues_of, unknown
from asyncjobs.cli.shared.render import clean, line, show_json
from asyncjobs.cli.shared.store_command import ask, store_options
from asyncjobs.errors import ConfigError, StoreError, StoreUnavailable, UsageError
from asyncjobs.host.exits import ExitCode
from asyncjobs.store.seam import Backend, StoreInfo

__all__ = ["pause", "resume"]

_EPILOG = """\b
Exit codes:
  0  done; also if it was so before
  1  a queue does not exist or cannot be reached; the store failed
  2  wrong usage or configuration
  3  the store cannot be reached, or has another layout
"""


@click.command("pause", epilog=_EPILOG)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@function_option("Pause only jobs of this job function.")
@click.option("--reason", metavar="TEXT", help="Why; shown by `queues list` and `check`.")
@store_options
@click.pass_context
def pause(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    function: str | None,
    reason: str | None,
    url: str | None,
    prefix: str,
    *,
    as_json: bool,
) -> None:
    """Stop handing out jobs of queues, at once and on all workers.

    Running jobs go on. Ready jobs stay, in their order. Does not import the app.
    """
    names = read_queues(ctx, names)

    async def question(store: Backend, info: StoreInfo) -> int:
        # A pause of a queue that nobody uses would seem to work, and stop nothing.
        known = await store.inspect.queues.names()
        done = _Done("paused", "paused already", function)
        for name in names:
            if (problem := unknown(name, known)) is not None:
                done.problems.append(problem)
            else:
                act = queues_of(store).pause(name, function, reason=reason)
                await done.add(name, name, act)
        return done.tell(as_json=as_json)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


@click.command("resume", epilog=_EPILOG)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@function_option("Resume only this job function.")
@click.option("--all", "all_", is_flag=True, help="Resume whatever is paused, functions too.")
@store_options
@click.pass_context
def resume(
    ctx: click.Context,
    /,
    names: tuple[str, ...],
    function: str | None,
    url: str | None,
    prefix: str,
    *,
    all_: bool,
    as_json: bool,
) -> None:
    """Hand out jobs of paused queues again.

    A job function that was paused by --function is resumed by --function, or by --all. Does not
    import the app.
    """
    if bool(names) == all_ or (all_ and function is not None):
        raise click.UsageError("name the queues, or give --all", ctx)
    names = read_queues(ctx, names)

    async def question(store: Backend, info: StoreInfo) -> int:
        queues = queues_of(store)
        done = _Done("resumed", "not paused", function)
        for name in names:
            await done.add(name, name, queues.resume(name, function))
        # Functions too: whoever ends an incident wants nothing to stay behind.
        if all_:
            for found in await queues.paused():
                label = found.queue
                if found.function is not None:
                    label += f", function {found.function}"
                await done.add(found.queue, label, queues.resume(found.queue, found.function))
        return done.tell(as_json=as_json)

    ctx.exit(ask(url, prefix, question, as_json=as_json))


class _Done:
    """What has become of each queue. `word`: what was done; `before`: what the others were."""

    def __init__(self, word: str, before: str, function: str | None) -> None:
        self.problems: list[str] = []
        self._word = word
        self._before = before
        self._function = function
        self._changed: list[str] = []
        self._same: list[str] = []

    async def add(self, queue: str, label: str, act: Awaitable[bool]) -> None:
        """Do it to one queue. Raises StoreUnavailable: the next ones would fail in the same way,
        each after its time-out."""
        # One queue that fails must not keep the others as they are.
        try:
            is_changed = await act
        except StoreUnavailable:
            raise
        # Another program may have paused what has a name that none of ours can have.
        except (StoreError, UsageError, ConfigError) as error:
            self.problems.append(f"queue {queue!r}: {error}")
        else:
            (self._changed if is_changed else self._same).append(label)

    def tell(self, *, as_json: bool) -> int:
        """Show it, and return the exit code."""
        for problem in self.problems:
            click.echo(f"Error: {line(problem)}", err=True)
        if as_json:
            fields: dict[str, Any] = {self._word: self._changed, "unchanged": self._same}
            show_json({**fields, "function": self._function, "errors": self.problems})
            return ExitCode.failed_if(self.problems)
        of_function = ""
        if self._function is not None:
            of_function = f", function {self._function}"
        for word, labels in ((self._word, self._changed), (self._before, self._same)):
            for label in labels:
                click.echo(f"{word}: {clean(label + of_function)}")
        return ExitCode.failed_if(self.problems)
