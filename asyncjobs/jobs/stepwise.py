"""The part of a job's context that steps, waits and stops need: its seat, made on request."""

from __future__ import annotations

from typing import NoReturn

from asyncjobs.jobs.seat import Desk, LocalSeat, Seat, StopReason
from asyncjobs.jobs.suspend import Suspend

__all__ = ["Stepwise"]


class Stepwise:
    """What a job may do over several attempts. A job that does nothing of it pays for nothing:
    each part is made when it is first asked for."""

    __slots__ = ("_desk", "_own_seat")

    _desk: Desk | None
    _own_seat: Seat

    @property
    def seat(self) -> Seat:
        """Where this attempt reads and writes its notes. In memory for a plain call."""
        try:
            return self._own_seat
        except AttributeError:
            self._own_seat = self._new_seat()
            return self._own_seat

    def _new_seat(self) -> Seat:
        if self._desk is None:
            return LocalSeat(self._outer_seat())
        return self._desk.seat_of(self)

    def _outer_seat(self) -> Seat | None:
        """The seat of the job that makes this plain call; None for an attempt."""
        return None

    # -- stops --------------------------------------------------------------------------------

    @property
    def should_stop(self) -> StopReason | None:
        """Why the job should stop now; None while it may go on.

        `shutdown`: the worker ends. It becomes true when the grace of the stop begins: until the
        grace is over, the job may finish the piece that it works on. The others come together
        with the cancellation of an async job: `cancel`, `timeout`, `lease lost`. A sync job cannot
        be cancelled: it has to ask. Works from threads.
        """
        return self.seat.stop_reason

    async def stopping(self) -> StopReason:
        """Wait until the job should stop; why. See `should_stop`."""
        return await self.seat.stopping()

    def interrupt(self) -> NoReturn:
        """End this attempt here, and run the job again at once: on another worker, if this one
        ends. Spends no attempt.

        Does not return. For a job that `should_stop` and has finished its piece.
        """
        raise Suspend(0, "interrupted")

    def hear_stop(self) -> None:
        """The worker has told the attempt to stop."""
        try:
            seat = self._own_seat
        except AttributeError:
            return
        seat.wake()
