"""Tunes Python's garbage collector for a worker process, whose objects are many and short-lived.

Only the worker command does this. In a program of their own, users decide about it.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["spare_the_collector"]

NEW_OBJECTS: Final = 10_000
"""After how many new objects the collector examines the young ones. A job makes about ten, and
reference counts free nearly all of them. With the default of 700 the collector would run every
70 jobs, and examine thousands of objects that only wait."""

_DEFAULT: Final = gc.get_threshold()


def spare_the_collector() -> None:
    """Exclude the objects that exist now from collection, and collect less often.

    To be called once the app is loaded and the worker has started. A threshold that the app has set
    stays.
    """
    # First: garbage that is frozen is never collected.
    gc.collect()
    gc.freeze()
    # 0 means that collection was switched off when this module was loaded.
    if gc.get_threshold() == _DEFAULT and _DEFAULT[0] > 0:
        gc.set_threshold(NEW_OBJECTS, *_DEFAULT[1:])
