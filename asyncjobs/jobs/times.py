"""Times of the store as people write them."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

__all__ = ["from_ms", "in_zone"]


def from_ms(value: int) -> datetime:
    """Milliseconds since the epoch as an aware datetime in UTC."""
    return datetime.fromtimestamp(value / 1000, UTC)


def in_zone(ms: int, zone: str) -> datetime:
    """Milliseconds since the epoch as an aware datetime in this zone; in UTC if this machine does
    not know the zone."""
    if zone == "UTC":
        # It needs no database of zones, which small images may lack.
        return from_ms(ms)
    try:
        return datetime.fromtimestamp(ms / 1000, ZoneInfo(zone))
    # A name from the store may be any text: a path, a folder, or one with a null byte.
    except (ValueError, KeyError, OSError, OverflowError):
        return from_ms(ms)
