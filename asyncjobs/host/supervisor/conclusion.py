"""The exit code of several processes together, told once."""

from __future__ import annotations

import asyncio
from typing import Final

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.host.exits import ExitCode
from asyncjobs.host.supervisor.child import Child

__all__ = ["Conclusion"]

logger = GuardedLog("asyncjobs.worker")

_BADNESS: Final = (ExitCode.CLEAN, ExitCode.RELEASED, ExitCode.FAILED)


class Conclusion:
    """Owns the end of the whole: whoever waits gets the worst exit code, or the error."""

    def __init__(self) -> None:
        self._worst = ExitCode.CLEAN
        self._over: asyncio.Future[int] | None = None

    async def wait(self) -> int:
        """Until the end was told. Raises what was given to `fail`."""
        return await self._future()

    def note(self, child: Child) -> None:
        """The exit code of a process counts that has ended."""
        verdict = child.verdict()
        if verdict is ExitCode.FAILED:
            logger.error("process %d (pid %d) %s", child.number, child.pid, child.epitaph())
        # A process that was to be replaced for its memory has done nothing wrong.
        if verdict is not ExitCode.MEMORY:
            self.blame(verdict)

    def blame(self, verdict: ExitCode) -> None:
        """The whole ends with this code, or with a worse one."""
        self._worst = max(self._worst, verdict, key=_BADNESS.index)

    def tell(self, code: int | None = None) -> None:
        """All is over. `code` takes the place of the worst one."""
        over = self._future()
        if not over.done():
            over.set_result(self._worst if code is None else code)

    def fail(self, error: BaseException) -> None:
        """All is over, for something has failed that nobody awaits."""
        over = self._future()
        if not over.done():
            over.set_exception(error)

    def _future(self) -> asyncio.Future[int]:
        # Made when first asked for: the supervisor is made before there is a loop.
        if self._over is None:
            self._over = asyncio.get_running_loop().create_future()
        return self._over
