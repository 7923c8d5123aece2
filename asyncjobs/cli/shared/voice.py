"""Keeps the log of a worker alive, however the app configures logging.

By default, `logging.config.dictConfig` and `fileConfig` disable every existing logger that they
do not name. The loggers of asyncjobs exist before the app is imported, so without this module
such an app would leave the worker with an empty log.
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
"""A logger that nobody names or writes to. If it is disabled, all loggers that were not named have
been disabled. If somebody disables a logger of asyncjobs on purpose, this one stays enabled."""
LOOK_S: Final = 2.0
"""How often a running worker checks its loggers: a job may configure logging, too."""


class Voice:
    """Enables the loggers of asyncjobs again that were disabled by accident.

    What the user has set on purpose stays: a level, handlers, `propagate`, `disabled`.
    """

    def __init__(self, handler: logging.Handler) -> None:
        """`handler` writes the log. To be made before the app is imported."""
        self._handler = handler
        self._witness = logging.getLogger(WITNESS)
        self._witness.disabled = False
        self._disabled_on_purpose: frozenset[str] = frozenset()
        self._timer: asyncio.TimerHandle | None = None

    def restore(self) -> None:
        """Repair the loggers. To be called whenever the app may have configured logging."""
        if self._witness.disabled:
            self._witness.disabled = False
            for logger in _ours():
                logger.disabled = logger.name in self._disabled_on_purpose
        else:
            disabled = (logger.name for logger in _ours() if logger.disabled)
            self._disabled_on_purpose = frozenset(disabled)
        self._restore_handler()

    def _restore_handler(self) -> None:
        """Add our handler if the app's configuration left the root logger without any."""
        top = logging.getLogger(OURS)
        root = logging.getLogger()
        if root.handlers:
            top.removeHandler(self._handler)
        # Without propagation, or with handlers of its own, our log was redirected on purpose.
        elif top.propagate and not any(logger.handlers for logger in _ours()):
            top.addHandler(self._handler)

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Restore now and every few seconds."""
        self.restore()
        self._timer = loop.call_later(LOOK_S, self.start, loop)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def say_why(self, text: str) -> None:
        """Say on stderr why the process ends, if the log would not show it."""
        if not logging.getLogger(f"{OURS}.cli").isEnabledFor(logging.CRITICAL):
            click.echo(f"Error: {text}", err=True)


def _ours() -> Iterator[logging.Logger]:
    # A copy, because another thread may make a logger meanwhile.
    for name, logger in list(logging.root.manager.loggerDict.items()):
        if isinstance(logger, logging.Logger) and (name == OURS or name.startswith(f"{OURS}.")):
            yield logger
