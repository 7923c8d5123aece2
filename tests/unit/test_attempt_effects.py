"""What an attempt keeps for its success, and what it refuses to keep."""

from __future__ import annotations

from typing import cast

import pytest

from asyncjobs.errors import MissingCapability, UsageError
from asyncjobs.jobs.effects import AttemptEffects
from asyncjobs.model.job import NewJob
from asyncjobs.model.refs import JobRef
from asyncjobs.model.settlement import MOST_EFFECT_BYTES, Effects
from asyncjobs.model.terms import Barrier, Gate, Terms
from asyncjobs.store.seam import Backend, Capabilities

PARENT = JobRef("work", "parent")


class Bare:
    """A store that can do the least."""

    address = "bare:"
    capabilities = Capabilities(durable=False, shared=False, threaded_heartbeat=False)


STORE = cast(Backend, Bare())


def new(id: str, queue: str = "work", size: int = 1, terms: Terms | None = None) -> NewJob:
    return NewJob(queue, id, 2, bytes(size), terms=terms)


def test_it_keeps_jobs_and_barriers_in_their_order() -> None:
    effects = AttemptEffects(PARENT, STORE)
    barrier = Barrier("work", "end", 1)
    effects.keep([new("a")], ["first"])
    effects.keep([new("b"), new("c")], ["second", "third"], [barrier])
    assert effects.names == ["first", "second", "third"]
    assert effects.close() == Effects((new("a"), new("b"), new("c")), (barrier,))


def test_it_may_keep_nothing() -> None:
    effects = AttemptEffects(PARENT, STORE)
    assert effects.close() is None


def test_after_its_end_it_keeps_nothing_more() -> None:
    effects = AttemptEffects(PARENT, STORE)
    effects.close()
    with pytest.raises(UsageError, match="after the end of this attempt of the job work/parent"):
        effects.keep([new("a")], ["f"])


@pytest.mark.parametrize(
    ("job", "error", "said"),
    [
        (new("a", "other"), UsageError, "work/parent carries the job other/a"),
        (new("a")._replace(priority=9), UsageError, "priority 9"),
        (new("a", terms=Terms(gate=Gate())), MissingCapability, "'gates'"),
    ],
)
def test_a_job_that_no_store_keeps_is_refused_at_once(
    job: NewJob, error: type[Exception], said: str
) -> None:
    effects = AttemptEffects(PARENT, STORE)
    with pytest.raises(error, match=said):
        effects.keep([new("good"), job], ["f", "f"])
    assert effects.close() is None


def test_too_many_bytes_are_refused_together() -> None:
    effects = AttemptEffects(PARENT, STORE)
    effects.keep([new("a", size=MOST_EFFECT_BYTES)], ["f"])
    with pytest.raises(UsageError, match=r"2 jobs of 4,194,305 bytes.*app.enqueue_many\(\)"):
        effects.keep([new("b")], ["f"])
    found = effects.close()
    assert found is not None
    assert [job.id for job in found.jobs] == ["a"]


def test_another_store_is_named() -> None:
    effects = AttemptEffects(PARENT, STORE)
    effects.check_store(STORE)
    with pytest.raises(UsageError, match=r"a call of another app, whose store is at bare:"):
        effects.check_store(cast(Backend, Bare()))
