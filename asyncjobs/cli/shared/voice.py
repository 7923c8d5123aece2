"""Keeps the worker's log audible, whatever the app configures for its own.

`logging.config.dictConfig` and `fileConfig` switch off every logger that exists and that they
do not name, unless they are told otherwise. Those of asyncjobs exist before the app is
imported, so a worker would end with an empty log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Final

import click

__all__ = ["Voice"]

OURS: Final = "asyncjobs"
WITNESS: Final = "asyncjobs-witness"
"""A logger that nobody names or writes to. It is switched off when all that are not named are,
and not when somebody switches off one of asyncjobs on purpose."""
LOOK_S: Final = 2.0
"""How often a running worker looks: a job may configure logging, too."""


class Voice:
    """Switches the loggers of asyncjobs on again that were switched off by the way.

    What the user says of them on purpose stands: a level, handlers, `propagate`, `disabled`.
    """

    def __init__(self, handler: logging.Handler) -> None:
        """`handler`: where the log goes. Made before the app is imported."""
        self._handler = handler
        self._witness = logging.getLogger(WITNESS)
        self._witness.disabled = False
        self._meant: frozenset[str] = frozenset()
        """Loggers that were switched off on purpose."""
        self._timer: asyncio.TimerHandle | None = None

    def restore(self) -> None:
        """After the app may have configured logging."""
        if self._witness.disabled:
            self._witness.disabled = False
            for logger in _ours():
                logger.disabled = logger.name in self._meant
        else:
            self._meant = frozenset(logger.name for logger in _ours() if logger.disabled)
        self._restore_handler()

    def _restore_handler(self) -> None:
        """A configuration that gives the root no handlers would leave us none."""
        top = logging.getLogger(OURS)
        root = logging.getLogger()
        if root.handlers:
            top.removeHandler(self._handler)
        elif top.propagate and not any(logger.handlers for logger in _ours()):
            top.addHandler(self._handler)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Restore every few seconds from now on."""
        self.restore()
        self._timer = loop.call_later(LOOK_S, self.start, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def say_why(self, text: str) -> None:
        """Why the process ends, on stderr, if the log does not take it: never without a word."""
        if not logging.getLogger(f"{OURS}.cli").isEnabledFor(logging.CRITICAL):
            click.echo(f"Error: {text}", err=True)


def _ours() -> Iterator[logging.Logger]:
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (name == OURS or name.startswith(f"{OURS}.")):
            yield logger
