"""Asking a person before a command changes many things."""

from __future__ import annotations

import signal
import sys

import click

__all__ = ["can_ask", "confirm"]


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
