"""What this backend can do, and the version of the keys that it writes."""

from __future__ import annotations

from typing import Final

from asyncjobs.store.seam import Capabilities

__all__ = ["CAPABILITIES", "LAYOUT", "READABLE"]

CAPABILITIES: Final = Capabilities(
    durable=True,
    shared=True,
    threaded_heartbeat=True,
    notes=True,
    events=True,
    control=True,
    unique=True,
    schedules=True,
    gates=True,
    across_queues=True,
    flows=True,
)

LAYOUT: Final = 2
"""The version of the keys in stores that this release makes. 2 has notes in place of progress."""

READABLE: Final = frozenset({"1", "2"})
"""The versions that this release can open. A store of layout 1 keeps it: workers of the release
that made it may run beside this one, and this one reads what they write."""
