"""`--reload`: tells when a Python file of the working directory has changed."""

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
    """True when the extra `reload` is installed."""
    return find_spec("watchfiles") is not None


async def watch(folder: Path, on_change: Callable[[], None]) -> None:
    """Call `on_change` after each burst of changes; watches from its first step on.

    Files of environments, caches and version control do not count.
    """
    from watchfiles import awatch

    # Its own report of each change, at the level at which ours is.
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

    # An environment may be called anything; the one that runs this is known, and each
    # other one in the folder has the file that makes it one.
    environments = {str(found.parent) for found in folder.glob("*/pyvenv.cfg")}
    return PythonFilter(ignore_paths=[sys.prefix, str(folder / ".asyncjobs"), *environments])
