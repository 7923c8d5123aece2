"""The periodic duties of a worker: each is a short class in a file of its own.

To add one, put a module with a subclass of `Duty` here. `every_duty` finds it: there is no list.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from inspect import isabstract
from typing import Final

from asyncjobs.errors import ConfigError
from asyncjobs.worker.duties.duty import Duty, Site

__all__ = ["Duty", "Site", "every_duty"]

_HERE: Final = f"{__name__}."
_RECLAIM: Final = f"{__name__}.reclaim"

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def every_duty() -> list[type[Duty]]:
    """The duties of this folder, by name. Raises ConfigError if they were left out."""
    # Subclasses elsewhere, in tests or in the user's code, are no duties of a worker. `Duty` itself
    # is abstract, which mypy refuses as an argument; it is only looked below, and never made.
    found = {duty for duty in _below(Duty) if duty.__module__.startswith(_HERE)}  # type: ignore[type-abstract]
    # rule:2 no worker starts without reclaim
    if not any(duty.__module__ == _RECLAIM for duty in found):
        raise ConfigError(
            "the duties of a worker are missing, reclaim among them: jobs of workers that died "
            "would never run again. This program was packed by a tool that follows imports, and "
            "no import names the modules in asyncjobs.worker.duties; tell the tool to include "
            "all of them (PyInstaller: --collect-submodules asyncjobs.worker.duties)"
        )
    return sorted(found, key=lambda duty: duty.__name__)


def _below(kind: type[Duty]) -> Iterator[type[Duty]]:
    """All classes derived from it that can be used, at any depth."""
    for each in kind.__subclasses__():
        if not isabstract(each):
            yield each
        yield from _below(each)
