"""What this backend can do, and the version of the keys that it writes."""

from __future__ import annotations

from typing import Final

from asyncjobs.backends.base import Capabilities

__all__ = ["CAPABILITIES"]

CAPABILITIES: Final = Capabilities(durable=True, shared=True, threaded_heartbeat=True, notes=True)
