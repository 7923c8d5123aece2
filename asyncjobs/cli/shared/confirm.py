"""Asking a person before a command changes many things."""

from __future__ import annotations

import signal
import sys
from typing import Any

import click

from asyncjobs.cli.shared.store_command import fail
from asyncjobs.host.exits import ExitCode

__all__ = ["ask_first", "can_ask", "confirm"]


def can_ask() -> bool:
    """Whether there is a terminal to ask on."""
    return sys.stdin.isatty()


def confirm(question: str) -> bool:
    """Ask on stderr; True for yes. Ctrl-C ends the command."""
    # The event loop's own handler would only note a Ctrl-C, and the prompt would go on waiting.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return click.confirm(question, err=True)
    finally:
        signal.signal(signal.SIGINT, before)


def ask_first(
    question: str, about: str, undone: str, *, as_json: bool, **fields: Any
) -> ExitCode | None:
    """Ask whether to go on: None after a yes, else the exit code of the command.

    `about`: what the command does, for a script, which has nobody to answer: "this would delete 2
    flows". `undone`: what to say after a no, such as "nothing was deleted". `fields`: what its JSON
    says, too, beside the error.
    """
    # To go on without an answer would be worse than to stop.
    if not can_ask():
        return fail(ExitCode.USAGE, f"{about}; add --yes to do it", as_json=as_json, **fields)
    if confirm(question):
        return None
    click.echo(undone, err=True)
    return ExitCode.FAILED
