"""How the server persists while something is measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

__all__ = ["FSYNC"]

FSYNC: Final[Mapping[str, Mapping[str, str]]] = {
    "off": {},
    # A rewrite of the file would fall into some rounds and not into others.
    "everysec": {
        "appendonly": "yes",
        "appendfsync": "everysec",
        "auto-aof-rewrite-percentage": "0",
    },
}
