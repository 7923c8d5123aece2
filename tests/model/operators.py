"""The state machine, with pauses by operators, and jobs that want one unique key."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from asyncjobs.model.demand import Demand
from asyncjobs.model.terms import Until
from asyncjobs.testing.conformance.store import QUEUE
from tests.model.machine import StoreMachine
from tests.model.steps import ID_TTL_MS, NAMES, WORKERS, with_jobs

__all__ = ["OperatorMachine"]


class OperatorMachine(StoreMachine):
    """Adds pauses of the queue and of a function that has no jobs, and meetings at a key."""

    @with_jobs
    @rule(function=st.sampled_from([None, None, "other"]), slots=st.integers(1, 4))
    def pause(self, function: str | None, slots: int) -> None:
        """Somebody pauses the queue, or a function that has no jobs, and both workers ask."""
        answer = self.do(self.store.control.queues.pause([QUEUE], function, b"{}"))
        assert answer == [function not in self.model.paused]
        self.model.paused.add(function)
        for number in (0, 1):
            self.take(number, slots)

    @precondition(lambda self: self.model.paused)
    @rule(function=st.sampled_from([None, None, "other"]))
    def resume(self, function: str | None) -> None:
        was_paused = function in self.model.paused
        assert self.do(self.store.control.queues.resume([QUEUE], function)) == [was_paused]
        self.model.paused.discard(function)
        self.model.is_called |= was_paused

    @precondition(lambda self: len(self.model.jobs) < len(NAMES) - 1)
    @rule(
        number=WORKERS,
        until=st.sampled_from(["finished", "finished", "started"]),
        end=st.sampled_from([None, None, "kept", "discarded", "dead", "soon", "release"]),
    )
    def share_a_key(self, number: int, until: Until, end: str | None) -> None:
        """A job gets a key and goes some way, then another one wants that key. Under ids that are
        forgotten: else they alone were in the way."""
        self.clock.ms += 2 * ID_TTL_MS
        first, second = [name for name in NAMES if name not in self.model.jobs][:2]
        self.enqueue([first], 0, 0, False, until)
        self.take(number, 1)
        held = len(self.party(number).held)
        if end is not None and held:
            self.exchange(number, [(end, held - 1, True)], Demand(0), 0)
        self.enqueue([second], 0, 0, False, until)
