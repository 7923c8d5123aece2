"""Two versions of a program side by side: what one does not know waits for the other."""

from __future__ import annotations

from functools import partial
from typing import Any

import orjson
import pytest

from asyncjobs import JobHandle
from asyncjobs.model.envelope import ENVELOPE_VERSION
from tests.guarantees import program
from tests.guarantees.kit import Scene, until
from tests.worker.kit import counts, store_raw

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("kind", ["valkey", "redis"])


def _scheduled(scene: Scene) -> dict[str, tuple[int, dict[str, Any]]]:
    """Due time (ms) and stored envelope of each job that was put back."""
    flat = scene.command("ZRANGE", scene.key("scheduled"), 0, -1, "WITHSCORES")
    due_ms = {flat[at].decode(): int(flat[at + 1]) for at in range(0, len(flat), 2)}
    stored = {id: scene.command("HGET", scene.key("scheduled:data"), id) for id in due_ms}
    # The first character is the priority.
    return {id: (due_ms[id], orjson.loads(raw[1:])) for id, raw in stored.items() if raw}


def _newer(headers: dict[str, Any] | None = None) -> bytes:
    """An envelope as a later release would write it, with a field that nobody knows yet."""
    fields = {"v": ENVELOPE_VERSION + 1, "f": "from.the.future", "zz": [1], "n": 1, "e": 1}
    return orjson.dumps(fields | ({"h": headers} if headers else {}))


def _are_put_back(scene: Scene, ids: list[str], times: int) -> bool:
    """All of them, more than so many times."""
    found = _scheduled(scene)
    return all(id in found and found[id][1]["h"]["unknown_times"] > times for id in ids)


@BOTH
async def test_unknown_jobs_and_newer_envelopes_wait_for_a_worker_that_has_them(
    scene: Scene,
) -> None:
    async with scene.app:
        a = await scene.start("a", version="older")
        since_ms = scene.store_ms()
        fresh: list[JobHandle[Any]] = [await scene.job(program.fresh).enqueue() for _ in range(5)]
        ids = [handle.id for handle in fresh]
        future = await store_raw(scene.app, _newer())

        await until(lambda: _are_put_back(scene, [*ids, future], 0))
        for id, (_, envelope) in _scheduled(scene).items():
            assert since_ms - 1_000 < envelope["h"]["first_unknown_at"] <= scene.store_ms() + 1_000
            assert envelope["n"] == 1, f"{id}: an attempt was spent"
        # What it does know it goes on with.
        scene.open("open")
        assert await scene.results(await scene.hold(3, "open")) == ["a"] * 3

        # As in a rolling deploy: the new one comes, works beside the old one, the old one goes.
        b = await scene.start("b", version="both")
        await scene.noted("began", 1, worker="b")
        assert await scene.stop(a) == 0
        assert await scene.results(fresh) == ["b"] * 5
        runs = scene.lines("began", name="tests.guarantees.program.fresh")
        assert sorted(line.id for line in runs) == sorted(ids)
        assert {(line.attempt, line.crashes, line.worker) for line in runs} == {(1, 0, "b")}

        # Nobody here can read this one: it is kept, as it was written.
        await until(lambda: _are_put_back(scene, [future], 1))
        await until(
            lambda: future in (found := _scheduled(scene)) and found[future][1]["zz"] == [1]
        )
        assert (await counts(scene.app)).dead == 0
        assert await scene.stop(b) == 0
        assert "no job function 'tests.guarantees.program.fresh' here" in a.text
        assert "put back" in a.text


async def test_the_delay_grows_to_a_minute_and_is_not_the_same_for_all(scene: Scene) -> None:
    async with scene.app:
        await scene.start("a", version="older")
        delays: dict[int, list[float]] = {}
        for times in (0, 1, 3, 30):
            since_ms = scene.store_ms()
            headers = {"first_unknown_at": since_ms, "unknown_times": times}
            ids = [await store_raw(scene.app, _newer(headers)) for _ in range(5)]
            await until(partial(_are_put_back, scene, ids, times))
            found = _scheduled(scene)
            delays[times] = [(found[id][0] - since_ms) / 1000 for id in ids]
        # From half of the most to the most: 1 s, 2 s, 8 s, a minute.
        for times, least in ((0, 0.5), (1, 1), (3, 4), (30, 30)):
            assert min(delays[times]) >= least
        assert max(delays[30]) < 60 + 10
        assert len(set(delays[30])) > 1
