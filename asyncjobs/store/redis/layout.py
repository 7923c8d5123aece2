"""What this backend can do, and the version of the keys that it writes."""

from __future__ import annotations

from typing import Final

from asyncjobs.store.seam import Capabilities

__all__ = ["CAPABILITIES", "LAYOUT", "READABLE"]

CAPABILITIES: Final = Capabilities(durable=True, shared=True, threaded_heartbeat=True, notes=True)

LAYOUT: Final = 2
"""Version of the keys, for stores that are made from now on. 2: notes in the place of progress."""

READABLE: Final = frozenset({"1", "2"})
"""Stores of these layouts can be opened. One of layout 1 stays one: workers of the release that
made it go on beside this one, and what they write is read."""
