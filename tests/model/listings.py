"""The machine with lists of jobs, and with what operators do to jobs that have not started."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from asyncjobs.model.job import State
from asyncjobs.model.notes import PROGRESS
from asyncjobs.store.changes import Change, Changed, Target
from asyncjobs.store.listing import JobQuery, ListedJob
from asyncjobs.testing.conformance.store import QUEUE, ref
from tests.model.letters import LetterMachine
from tests.model.steps import NAMES, PICK, with_jobs

__all__ = ["ListingMachine"]


class ListingMachine(LetterMachine):
    """Adds lists, deletes, early starts and changes."""

    @rule(
        state=st.sampled_from([State.READY, State.SCHEDULED, State.RUNNING, State.DEAD]),
        limit=st.integers(1, 3),
        most_looks=st.sampled_from([1, 5000]),
        oldest_first=st.booleans(),
    )
    def list_jobs(self, state: State, limit: int, most_looks: int, oldest_first: bool) -> None:
        """Each job of a state is listed once, whatever the pages are."""
        query = JobQuery(
            state, (QUEUE,), limit=limit, most_looks=most_looks, oldest_first=oldest_first
        )
        found: list[ListedJob] = []
        after = None
        while True:
            page = self.do(self.store.inspect.jobs.page(query, after))
            assert page.now_ms == self.now
            found += page.jobs
            after = page.after
            if after is None:
                break
        listed = [job.ref.id for job in found]
        if state is State.DEAD:
            assert sorted(listed) == sorted(self.model.letters)
            return
        expected = [job for job in self.model.jobs.values() if job.state is state]
        assert sorted(listed) == sorted(job.id for job in expected)
        for job in found:
            progress = job.record.progress
            if state is not State.RUNNING:
                # Lists leave it out.
                assert progress is None
                progress = self.model.jobs[job.ref.id].notes.get(PROGRESS)
            record = job.record._replace(progress=progress)
            self.model.check_record(job.ref.id, record, self.now)
        if state is State.SCHEDULED:
            in_order = [job.id for job in self.model.scheduled()]
            assert listed == (in_order if oldest_first else in_order[::-1])

    def chosen(self, pick: int) -> tuple[str, Changed | None]:
        """A name, and what keeps an action from its job."""
        name = [*self.model.jobs, *NAMES][pick % (len(self.model.jobs) + len(NAMES))]
        job = self.model.jobs.get(name)
        if job is None:
            return name, Changed.GONE
        if job.state is State.RUNNING:
            return name, Changed.RUNNING
        return name, None

    @with_jobs
    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        name, obstacle = self.chosen(pick)
        answer = self.do(self.store.inspect.jobs.delete([Target(ref(name))]))
        assert answer == [obstacle or Changed.DONE]
        if obstacle is None:
            del self.model.jobs[name]

    @precondition(lambda self: self.model.scheduled())
    @rule(pick=PICK)
    def run_now(self, pick: int) -> None:
        name, obstacle = self.chosen(pick)
        (answer,) = self.do(self.store.inspect.jobs.run_now([Target(ref(name))]))
        if obstacle is not None:
            assert answer is obstacle
            return
        job = self.model.jobs[name]
        if job.state is State.READY:
            assert answer is Changed.READY
            return
        assert answer is Changed.DONE
        self.model._make_ready(job)
        self.model.is_called = True

    @with_jobs
    @rule(pick=PICK, delay_ms=st.sampled_from([None, None, 0, 400]), is_stale=st.booleans())
    def change(self, pick: int, delay_ms: int | None, is_stale: bool) -> None:
        name, obstacle = self.chosen(pick)
        job = self.model.jobs.get(name)
        expected = b"another" if is_stale or job is None else job.envelope
        at_ms = None if delay_ms is None else self.now + self.free_delay(delay_ms)
        new = b"changed %d" % next(self.serials)
        earliest = self.model.next_due()
        (answer,) = self.do(
            self.store.inspect.jobs.change([Change(ref(name), expected, new, at_ms)])
        )
        if obstacle is not None or job is None:
            assert answer is obstacle
            return
        if is_stale or job.marked:
            assert answer is Changed.MOVED
            return
        assert answer is Changed.DONE
        job.envelope = new
        if at_ms is None and job.state is State.SCHEDULED:
            return
        if at_ms is not None and at_ms > self.now:
            job.due_ms = at_ms
            job.crashes = 0
            self.model.is_called |= self.model._is_sooner_than(earliest)
            return
        self.model._make_ready(job)
        self.model.is_called = True
