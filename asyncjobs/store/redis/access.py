"""How every part of the backend reaches the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Link
from asyncjobs.store.seam import StoreSettings

__all__ = ["Access"]


@dataclass(frozen=True, slots=True)
class Access:
    """What leases, inspection and dead letters have in common. Owns no connection."""

    link: Link
    """For calls that are answered at once; shared."""
    new_link: Callable[[str], Link]
    """Makes another connection, with a label that the server shows."""
    keys: StoreKeys
    settings: StoreSettings
    pinned: Callable[[], bytes]
    """The time in ms when a test pins the clock, else nothing."""
