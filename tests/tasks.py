"""All tasks of the running loop, those too that are hidden from `asyncio.all_tasks()`."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

__all__ = ["every_task"]


def every_task() -> list[asyncio.Task[Any]]:
    """Those that are not done."""
    loop = asyncio.get_running_loop()
    tasks = [found for found in gc.get_objects() if isinstance(found, asyncio.Task)]
    return [task for task in tasks if task.get_loop() is loop and not task.done()]
