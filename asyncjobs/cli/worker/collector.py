"""The garbage collector of a worker process, set for many objects that live for a moment.

Only the worker command does this: in a program of the user's own it is the user's matter.
"""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["spare_the_collector"]

NEW_OBJECTS: Final = 10_000
"""After how many new objects the collector looks through the young ones. Each job makes
some ten, nearly all of which go by their reference counts; by default (700) it looks every
70 jobs, through the thousands that wait for something."""

_DEFAULT: Final = gc.get_threshold()


def spare_the_collector() -> None:
    """Leave alone what is there once the worker has started, and collect less often.

    To be called when the app is loaded. A threshold that the app has set stays.
    """
    gc.collect()
    gc.freeze()
    if gc.get_threshold() == _DEFAULT and _DEFAULT[0] > 0:
        gc.set_threshold(NEW_OBJECTS, *_DEFAULT[1:])
