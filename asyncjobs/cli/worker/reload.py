"""`--reload`: notices when a Python file in the working directory changes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asyncjobs.guard.guarded import GuardedLog

__all__ = ["can_watch", "watch"]

logger = GuardedLog("asyncjobs.cli")


def can_watch() -> bool:
    """Whether the extra `reload` is installed."""
    return find_spec("watchfiles") is not None


async def watch(folder: Path, on_change: Callable[[], None]) -> None:
    """Call `on_change` after each burst of changes. Watches as soon as it first runs.

    Ignores files of virtual environments, caches and version control.
    """
    from watchfiles import awatch

    # It logs each change at info, as this module does.
    logging.getLogger("watchfiles").setLevel(logging.WARNING)
    async for changes in awatch(folder, watch_filter=_filter(folder)):
        paths = sorted({path for _, path in changes})
        shown = str(Path(paths[0]).relative_to(folder))
        if len(paths) > 1:
            shown += f" and {len(paths) - 1} more"
        logger.info("%s changed: restarting", shown)
        on_change()


def _filter(folder: Path) -> Callable[[Any, str], bool]:
    from watchfiles import PythonFilter

    # A virtual environment may have any name. The running one is known; the others are found by
    # the file that every virtual environment has.
    environments = {str(found.parent) for found in folder.glob("*/pyvenv.cfg")}
    return PythonFilter(ignore_paths=[sys.prefix, str(folder / ".asyncjobs"), *environments])
