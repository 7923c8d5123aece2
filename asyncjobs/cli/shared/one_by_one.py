"""Changing things that were named, each by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import click

from asyncjobs.cli.shared.render import line, show_json
from asyncjobs.host.exits import ExitCode

__all__ = ["Refused", "change_each"]

T = TypeVar("T")


class Refused(Exception):
    """One thing cannot be changed; the text says why. The others still are."""


async def change_each(
    things: Iterable[T], act: Callable[[T], Awaitable[str]], *, as_json: bool
) -> ExitCode:
    """Change each, and tell what was done. `act` returns that in words, or raises Refused."""
    done: dict[str, str] = {}
    errors: dict[str, str] = {}
    # One by one: a mistake in the last one must not undo or hide what was done before.
    for each in things:
        try:
            done[str(each)] = await act(each)
        except Refused as refused:
            errors[str(each)] = str(refused)
    for problem in errors.values():
        click.echo(f"Error: {line(problem)}", err=True)
    if as_json:
        show_json({"done": done, "errors": errors})
    else:
        for name, what in done.items():
            click.echo(f"{line(name)}: {what}")
    return ExitCode.failed_if(errors)
