"""examples/fastapi_app: over ASGI with a worker beside it, and as processes."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest

from asyncjobs import Worker
from asyncjobs.testing.servers import Server, start_server
from tests.examples.kit import curl, curl_lines, events_of, loaded, running, state_of
from tests.kit.environment import LIMIT_S, ROOT

pytestmark = pytest.mark.anyio

FOLDER = ROOT / "examples" / "fastapi_app"
README = FOLDER / "README.md"


async def order(client: httpx.AsyncClient, customer: str = "acme", **fields: Any) -> str:
    """Enqueue a report; the path of its job."""
    answer = await client.post("/reports", json={"customer": customer, **fields})
    assert answer.status_code == 202
    return answer.headers["Location"]


# Enqueue and poll


@pytest.mark.usefixtures("worker")
async def test_a_report_is_accepted_then_found_by_polling(client: httpx.AsyncClient) -> None:
    answer = await client.post("/reports", json={"customer": "acme", "rows": 3})
    body = answer.json()
    assert answer.status_code == 202
    assert answer.headers["Location"] == f"/reports/{body['id']}"
    assert body["state"] in ("ready", "running")
    found = await state_of(client, answer.headers["Location"], "succeeded")
    assert (found["id"], found["attempt"]) == (body["id"], 1)
    result = await client.get(f"{answer.headers['Location']}/result")
    assert result.status_code == 200
    assert result.json() == {"customer": "acme", "rows": 3, "total": 6}


@pytest.mark.usefixtures("worker")
async def test_a_result_can_be_waited_for(client: httpx.AsyncClient) -> None:
    path = await order(client, rows=2)
    result = await client.get(f"{path}/result", params={"wait": 20})
    assert (result.status_code, result.json()["total"]) == (200, 3)


@pytest.mark.usefixtures("worker")
async def test_polling_shows_progress(client: httpx.AsyncClient) -> None:
    path = await order(client, rows=1000)
    async with asyncio.timeout(LIMIT_S):
        while not (progress := (await client.get(path)).json()["progress"]):
            await asyncio.sleep(0.01)
    assert progress["total"] == 1000
    assert progress["note"] == f"row {int(progress['done'])}"


async def test_without_a_worker_a_job_stays_ready(client: httpx.AsyncClient) -> None:
    path = await order(client)
    assert (await client.get(path)).json()["state"] == "ready"
    result = await client.get(f"{path}/result", params={"wait": 0.01})
    assert (result.status_code, result.json()["state"]) == (202, "ready")


async def test_one_key_makes_one_job(client: httpx.AsyncClient, tasks: ModuleType) -> None:
    key = {"Idempotency-Key": "order-1"}
    bodies = [
        (await client.post("/reports", json={"customer": "acme"}, headers=key)).json()
        for _ in range(3)
    ]
    assert {body["id"] for body in bodies} == {"order-1"}
    (counts,) = await tasks.app.backend.inspect.queues.counts(["reports"])
    assert sum(counts.ready) == 1


@pytest.mark.parametrize("rows", [0, 1001, "many"])
async def test_a_wrong_order_enqueues_nothing(
    rows: Any, client: httpx.AsyncClient, tasks: ModuleType
) -> None:
    answer = await client.post("/reports", json={"customer": "acme", "rows": rows})
    assert answer.status_code == 422
    (counts,) = await tasks.app.backend.inspect.queues.counts(["reports"])
    assert sum(counts.ready) == 0


# What can go wrong


@pytest.mark.parametrize("path", ["", "/result", "/events", "/events?cancel=true"])
async def test_an_unknown_job_is_404(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(f"/reports/nosuchjob{path}")
    assert answer.status_code == 404
    assert answer.json()["error"] == "JobNotFound"


async def test_cancelling_an_unknown_job_is_404(client: httpx.AsyncClient) -> None:
    assert (await client.delete("/reports/nosuchjob")).status_code == 404


async def test_what_cannot_be_a_job_id_is_422(client: httpx.AsyncClient) -> None:
    assert (await client.get("/reports/a%20b")).status_code == 422
    answer = await client.post(
        "/reports", json={"customer": "acme"}, headers={"Idempotency-Key": "a/b"}
    )
    assert answer.status_code == 422


@pytest.mark.usefixtures("worker")
async def test_a_failed_job_is_500_without_its_traceback(client: httpx.AsyncClient) -> None:
    path = await order(client, "nobody")
    assert (await state_of(client, path, "dead"))["attempt"] == 2
    answer = await client.get(f"{path}/result")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "JobFailed",
        "detail": "the job failed",
        "error_type": "tasks.UnknownCustomer",
    }


async def test_a_cancelled_job_has_no_result(client: httpx.AsyncClient) -> None:
    path = await order(client)
    assert (await client.delete(path)).json()["state"] == "cancelled"
    answer = await client.get(f"{path}/result")
    assert (answer.status_code, answer.json()["error"]) == (409, "JobCancelled")


async def test_a_store_that_is_away_is_503(client: httpx.AsyncClient, server: Server) -> None:
    path = await order(client)
    await asyncio.to_thread(server.kill)
    answers = [
        await client.get(path),
        await client.get(f"{path}/events"),
        await client.post("/reports", json={"customer": "acme"}),
    ]
    assert [answer.status_code for answer in answers] == [503, 503, 503]
    assert {answer.json()["error"] for answer in answers} == {"StoreUnavailable"}
    assert {answer.headers["Retry-After"] for answer in answers} == {"2"}
    assert str(server.port) not in "".join(answer.text for answer in answers)


async def test_a_stream_goes_on_when_the_store_is_back(
    tasks: ModuleType, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with loaded(FOLDER, "web") as (web,):
        away, back = asyncio.Event(), asyncio.Event()

        async def pause(_: float) -> None:
            away.set()
            await back.wait()

        monkeypatch.setattr(web, "asyncio", SimpleNamespace(sleep=pause))
        async with tasks.app:
            handle = tasks.make_report.handle("first")
            await asyncio.to_thread(server.kill)
            reading = asyncio.create_task(_end_of(web.follow(handle)))
            async with asyncio.timeout(LIMIT_S):
                await away.wait()
                await asyncio.to_thread(server.restart)
                await tasks.make_report.options(id="first").enqueue("acme", 1)
                async with Worker(tasks.app, grace=1):
                    back.set()
                    end = await reading
        assert end["result"]["total"] == 1


async def _end_of(events: AsyncIterator[tuple[str, Any]]) -> Any:
    """The data of the last event, which must be the end."""
    *_, (name, data) = [event async for event in events]
    assert name == "end"
    return data


# Streams, with a worker and a web server in processes of their own


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with (
        start_server("valkey") as server,
        running(FOLDER, ASYNCJOBS_URL=server.url) as address,
    ):
        yield address


@pytest.fixture
async def remote(address: str) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=address, timeout=LIMIT_S) as client:
        yield client


async def test_a_stream_shows_progress_and_ends_with_the_result(remote: httpx.AsyncClient) -> None:
    path = await order(remote, rows=20)
    async with remote.stream("GET", f"{path}/events") as response:
        assert response.headers["Content-Type"].startswith("text/event-stream")
        *progress, end = [event async for event in events_of(response)]
    assert end == (
        "end",
        {"state": "succeeded", "result": {"customer": "acme", "rows": 20, "total": 210}},
    )
    assert progress
    assert {name for name, _ in progress} == {"progress"}
    done = [data["done"] for _, data in progress]
    assert done == sorted(set(done)), "each report is shown once"


async def test_a_stream_of_a_failed_job_ends_with_its_error(remote: httpx.AsyncClient) -> None:
    path = await order(remote, "nobody")
    async with remote.stream("GET", f"{path}/events") as response:
        *_, (name, data) = [event async for event in events_of(response)]
    assert (name, data["error"]) == ("end", "JobFailed")
    assert "Traceback" not in json.dumps(data)


async def leave_after_progress(client: httpx.AsyncClient, url: str) -> None:
    async with client.stream("GET", url) as response:
        async for name, _ in events_of(response):
            assert name == "progress"
            break


async def test_a_client_that_leaves_may_cancel_its_job(remote: httpx.AsyncClient) -> None:
    path = await order(remote, rows=1000)
    await leave_after_progress(remote, f"{path}/events?cancel=true")
    await state_of(remote, path, "cancelled")


async def test_a_client_that_leaves_otherwise_lets_the_job_go_on(
    remote: httpx.AsyncClient,
) -> None:
    path = await order(remote, rows=20)
    await leave_after_progress(remote, f"{path}/events")
    await state_of(remote, path, "succeeded")


async def test_a_stream_that_reached_its_end_cancels_nothing(remote: httpx.AsyncClient) -> None:
    path = await order(remote, rows=1)
    async with remote.stream("GET", f"{path}/events?cancel=true") as response:
        assert [event[0] async for event in events_of(response)][-1] == "end"
    assert (await remote.get(path)).json()["state"] == "succeeded"


def test_the_requests_of_the_readme_work(address: str) -> None:
    ordered, looked, streamed, waited, cancelled = [
        curl(line.replace("localhost:8000", address)) for line in curl_lines(README)
    ]
    assert " 202 Accepted" in ordered
    assert "location: /reports/first" in ordered.lower()
    assert json.loads(looked)["id"] == "first"
    (shown,) = re.findall(r"^event: end\ndata: .*$", README.read_text(), re.MULTILINE)
    assert streamed.strip().endswith(shown)
    assert "event: progress\ndata: {" in streamed
    assert json.loads(waited)["total"] == 1275
    assert json.loads(cancelled)["state"] == "succeeded"
