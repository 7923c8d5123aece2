"""What a success causes besides, when the store cannot keep it: that costs this one job."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import AsyncJobs, JobFailed, RetryPolicy, constant
from asyncjobs.model.job import NewJob, TakenJob
from asyncjobs.model.settlement import MOST_EFFECT_BYTES, Effects, Settlement
from tests.worker import jobs
from tests.worker.kit import LIMIT_S, Stage, counts, register, working

pytestmark = pytest.mark.anyio

REFUSED = [
    (NewJob("default", "a", 2, bytes(MOST_EFFECT_BYTES + 1)), r"UsageError: .*in parts"),
    (NewJob("default", "a", 7, b"{}"), r"UsageError: .*default/evil.*priority 7"),
]


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> dict[str, NewJob]:
    """The jobs that the success of the job with this id causes."""
    planned: dict[str, NewJob] = {}
    plain = Settlement.succeeded

    def planted(job: TakenJob, *about: Any) -> Settlement:
        settlement = plain(job, *about)
        if job.id not in planned:
            return settlement
        return settlement.causing(Effects((planned[job.id],)))

    monkeypatch.setattr(Settlement, "succeeded", planted)
    return planned


@pytest.mark.parametrize(("child", "said"), REFUSED, ids=["size", "priority"])
async def test_what_a_store_cannot_keep_fails_its_job_alone(
    app: AsyncJobs, stage: Stage, poison: dict[str, NewJob], child: NewJob, said: str
) -> None:
    job = register(app, jobs.note, retry=RetryPolicy(2, constant(0)))
    poison["evil"] = child
    async with working(app, concurrency=20):
        good = await app.enqueue_many([job.bind(f"before {n}") for n in range(5)])
        evil = await job.options(id="evil").enqueue("evil")
        good += await app.enqueue_many([job.bind(f"after {n}") for n in range(5)])
        with pytest.raises(JobFailed, match=said):
            await evil.result(LIMIT_S)
        for handle in good:
            await handle.result(LIMIT_S)
        found = await counts(app)
    assert (found.dead, found.running, sum(found.ready)) == (1, 0, 0)
    assert sorted(stage.notes) == sorted(
        [*(f"{word} {n}" for word in ("before", "after") for n in range(5)), "evil", "evil"]
    )
