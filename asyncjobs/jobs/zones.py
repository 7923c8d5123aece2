"""Time zones are read from disk: here in a thread, before an event loop needs them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import partial
from typing import Final
from zoneinfo import ZoneInfo

from asyncjobs.guard.own import in_own_thread

__all__ = ["load_zones", "load_zones_of"]

MOST: Final = 1_000
"""There are about 600 zones. Names from a store may be any texts, without end."""

_IN_DEFINITION: Final = re.compile(rb'"tz":"([A-Za-z0-9_+/-]{1,64})"')
# ZoneInfo itself keeps only those that somebody holds, and the last eight.
_loaded: dict[str, ZoneInfo | None] = {}


async def load_zones_of(definitions: Iterable[bytes]) -> None:
    """Read the zones that these stored definitions of schedules name."""
    names: set[str] = set()
    for definition in definitions:
        names.update(name.decode() for name in _IN_DEFINITION.findall(definition))
    await load_zones(names)


async def load_zones(names: Iterable[str]) -> None:
    """Read the zones with these names, unless they were read before. Unknown ones are passed
    over: whoever uses them gets the error."""
    new = [name for name in names if name not in _loaded]
    if new and len(_loaded) < MOST:
        # Most calls end before this, since a program knows a handful of zones.
        await in_own_thread(partial(_load, new))


def _load(names: Iterable[str]) -> None:
    for name in names:
        try:
            _loaded[name] = ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            _loaded[name] = None
