"""The periodic duties of a worker: each is a short class in a file of its own.

To add one, put a module with a subclass of `Duty` here. `every_duty` finds it: there is no list.
"""

from __future__ import annotations

import pkgutil
from importlib import import_module

from asyncjobs.worker.duties.duty import Duty, Site

__all__ = ["Duty", "Site", "every_duty"]

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def every_duty() -> list[type[Duty]]:
    """The duties of this folder, by name."""
    # Subclasses elsewhere, in tests or in the user's code, are no duties of a worker.
    found = [duty for duty in Duty.__subclasses__() if duty.__module__.startswith(f"{__name__}.")]
    return sorted(found, key=lambda duty: duty.__name__)
