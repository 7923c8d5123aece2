"""How each part of the backend reaches the server."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asyncjobs.store.redis.keys import StoreKeys
from asyncjobs.store.redis.link import Link
from asyncjobs.store.seam import StoreSettings

__all__ = ["Access"]


@dataclass(frozen=True, slots=True)
class Access:
    """What leases, enqueues, inspection and dead letters share. Owns no connection."""

    link: Link
    """The shared connection, for calls that are answered at once."""
    new_link: Callable[[str], Link]
    """Makes another connection. The server shows its label."""
    keys: StoreKeys
    settings: StoreSettings
    pinned: Callable[[], bytes]
    """The time in ms when a test pins the clock, else empty: then the server's clock counts."""
