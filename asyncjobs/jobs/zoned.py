"""Times with their zones as text: `2026-03-29T03:00:00+02:00[Europe/Berlin]`.

The text is that of RFC 9557, as Java and JavaScript's Temporal write it. The offset says which
moment it is, and the name how to go on from there. A time of a fixed offset has no name.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

__all__ = ["read_time", "with_zones", "written_time"]


def written_time(value: datetime) -> str:
    """The time as text. Raises ValueError for a zone without a name."""
    zone = value.tzinfo
    text = value.isoformat()
    if zone is None:
        return text
    name = getattr(zone, "key", None)
    # rule:30 a time keeps the name of its zone
    if isinstance(zone, ZoneInfo) and name:
        return f"{text}[{name}]"
    if zone.utcoffset(None) is None:
        raise ValueError(
            f"the zone of this time is a {type(zone).__name__}, whose name cannot be stored; "
            "write value.astimezone(ZoneInfo('Europe/Berlin'))"
        )
    return text


def read_time(text: str) -> datetime:
    """The time that `written_time` has written. Raises ValueError."""
    moment, _, name = text[:-1].partition("[")
    try:
        # The moment counts, even if this machine knows other rules for the zone.
        return datetime.fromisoformat(moment).astimezone(ZoneInfo(name))
    # A name from the store may be any text: a path, a folder, or one with a null byte.
    except (KeyError, OSError, OverflowError) as error:
        raise ValueError(f"this machine knows no zone {name!r:.80}") from error


def with_zones(value: Any) -> Any:
    """The value with each time in it as text and each tuple as a list. Raises ValueError."""
    if isinstance(value, datetime):
        return written_time(value)
    if isinstance(value, list | tuple):
        return [with_zones(item) for item in value]
    if isinstance(value, dict):
        return {key: with_zones(item) for key, item in value.items()}
    return value
