"""The machine with what operators do to dead letters, and the model of that."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import invariant, precondition, rule

from asyncjobs.model.job import Priority
from asyncjobs.store.activity import ENQUEUED, MINUTE_MS
from asyncjobs.store.letters import DeadLetter, LetterKey, LetterQuery, Revival, Revived
from asyncjobs.testing.conformance.store import QUEUE, ref
from tests.model.model import QueueModel
from tests.model.operators import OperatorMachine
from tests.model.parts import Job
from tests.model.steps import NAMES

__all__ = ["LetterMachine"]

LATE_MS = st.sampled_from([0, 0, 0, 1])
"""How far off the time of death is that a caller names."""


def revive(model: QueueModel, revival: Revival, priority: Priority | None, now_ms: int) -> Revived:
    """What a store has to answer; the model does the same."""
    id = revival.key.ref.id
    letter = model.letters.get(id)
    if letter is None or letter.at_ms != revival.key.died_ms:
        return Revived.GONE
    if id in model.jobs:
        return Revived.TAKEN
    del model.letters[id]
    # Its result too: were it left, it would be found under the end that is to come.
    model.ends.pop(id, None)
    job = Job(id, letter.priority if priority is None else priority, revival.envelope)
    job.notes = letter.notes
    model.jobs[id] = job
    model._make_ready(job)
    model.tally[now_ms // MINUTE_MS, ENQUEUED] += 1
    model.is_called = True
    return Revived.READY


class LetterMachine(OperatorMachine):
    """Adds revivals and purges, and looks at all letters after each step."""

    def key(self, name: str, late_ms: int) -> LetterKey:
        letter = self.model.letters.get(name)
        return LetterKey(ref(name), (letter.at_ms if letter else self.now) + late_ms)

    def names(self, pick: int) -> str:
        """One with a letter, or now and then any."""
        found = [*self.model.letters, *self.model.letters, *NAMES]
        return found[pick % len(found)]

    @precondition(lambda self: self.model.letters)
    @rule(
        pick=st.integers(0, 11),
        priority=st.sampled_from([None, None, *Priority]),
        late_ms=LATE_MS,
        is_twice=st.booleans(),
    )
    def revive(self, pick: int, priority: Priority | None, late_ms: int, is_twice: bool) -> None:
        key = self.key(self.names(pick), late_ms)
        call = [Revival(key, b"again %d" % next(self.serials))] * (2 if is_twice else 1)
        answer = self.do(self.store.dead.revive(call, priority=priority))
        assert answer == [revive(self.model, each, priority, self.now) for each in call]

    @precondition(lambda self: self.model.letters)
    @rule(pick=st.integers(0, 11), late_ms=LATE_MS)
    def purge(self, pick: int, late_ms: int) -> None:
        key = self.key(self.names(pick), late_ms)
        letter = self.model.letters.get(key.ref.id)
        is_there = letter is not None and letter.at_ms == key.died_ms
        assert self.do(self.store.dead.purge([key])) == [is_there]
        if is_there:
            del self.model.letters[key.ref.id]

    @invariant()
    def look_at_letters(self) -> None:
        """Page by page, one on each, so that every place of a cursor is tried."""
        found: list[DeadLetter] = []
        after, total = None, len(self.model.letters)
        while True:
            page = self.do(self.store.dead.page(LetterQuery(QUEUE, limit=1), after))
            assert (page.total, page.now_ms) == (total, self.now)
            found += page.letters
            after = page.after
            if after is None:
                break
        assert found == [
            DeadLetter(LetterKey(ref(id), at_ms), Priority(priority), text, len(text))
            for id, (at_ms, priority, text, _) in sorted(
                self.model.letters.items(), key=lambda item: item[1].at_ms, reverse=True
            )
        ]
