"""Whether a run of a worker shall end, and how soon."""

from __future__ import annotations

import asyncio
from contextlib import suppress

__all__ = ["StopRequest"]


class StopRequest:
    """The request to end one run of a worker. Touched on the worker's loop only; `is_made` and
    `is_from_outside` may be read from any thread."""

    def __init__(self) -> None:
        self._made = asyncio.Event()
        self._hurried = asyncio.Event()
        self.is_from_outside = False
        """Whether somebody else wants the end. A worker may also stop for a reason of its own."""

    @property
    def is_made(self) -> bool:
        """Whether the run shall end, for whatever reason."""
        return self._made.is_set()

    def ask(self) -> None:
        """Somebody outside wants the run to end, within the grace."""
        self.is_from_outside = True
        self._made.set()

    def ask_by_itself(self) -> None:
        """The worker ends its run, within the grace. The first request from outside that comes
        later is still a first one: it does not hurry."""
        self._made.set()

    def hurry(self) -> None:
        """Somebody outside does not want to wait for the grace."""
        self._hurried.set()

    async def wait(self) -> None:
        """Until the run shall end."""
        await self._made.wait()

    async def is_hurried_within(self, limit_s: float) -> bool:
        """Whether the end has to hurry. Waits up to this long for that."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._hurried.wait()
        return self._hurried.is_set()
