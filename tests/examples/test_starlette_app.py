"""examples/starlette_app: over ASGI with a worker beside it, and as processes."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from types import ModuleType

import httpx
import pytest

from asyncjobs import NotOpen
from asyncjobs.testing.servers import Server
from tests.examples.kit import asgi_client, curl, curl_lines, events_of, loaded, running, state_of
from tests.kit.environment import LIMIT_S, ROOT

pytestmark = pytest.mark.anyio

FOLDER = ROOT / "examples" / "starlette_app"


@pytest.mark.usefixtures("worker")
async def test_words_are_counted(client: httpx.AsyncClient) -> None:
    answer = await client.post("/words", content="to be or not to be")
    assert answer.status_code == 202
    path = answer.headers["Location"]
    assert path == f"/words/{answer.json()['id']}"
    found = await state_of(client, path, "succeeded")
    assert found["result"] == {"to": 2, "be": 2, "or": 1, "not": 1}


@pytest.mark.usefixtures("worker")
async def test_polling_shows_progress(client: httpx.AsyncClient) -> None:
    answer = await client.post("/words", content="word " * 1000)
    async with asyncio.timeout(LIMIT_S):
        while not (body := (await client.get(answer.headers["Location"])).json()).get("progress"):
            await asyncio.sleep(0.01)
    assert (body["state"], body["progress"]["total"]) == ("running", 1000)


async def test_the_own_lifespan_runs_beside_that_of_the_jobs(
    client: httpx.AsyncClient, tasks: ModuleType
) -> None:
    assert (await client.get("/")).json() == {"hello": "send a text to /words"}
    assert tasks.app.client


async def test_the_jobs_are_closed_with_the_application(tasks: ModuleType) -> None:
    with loaded(FOLDER, "web") as (web,):
        async with asgi_client(web.web):
            pass
        app = web.app
    with pytest.raises(NotOpen):
        _ = app.client


@pytest.mark.parametrize("path", ["/words/nosuchjob", "/words/a%20b", "/words/nosuchjob/events"])
async def test_an_unknown_job_is_404(path: str, client: httpx.AsyncClient) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.json()["error"]) == (404, "JobNotFound")


@pytest.mark.parametrize("size", [0, 10_001])
async def test_no_text_or_too_much_of_it_is_422(size: int, client: httpx.AsyncClient) -> None:
    assert (await client.post("/words", content=b"x" * size)).status_code == 422


async def test_a_store_that_is_away_is_503(client: httpx.AsyncClient, server: Server) -> None:
    await asyncio.to_thread(server.kill)
    answer = await client.post("/words", content="to be")
    assert (answer.status_code, answer.json()) == (503, {"error": "StoreUnavailable"})


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Without a URL, as the README has it: both processes share one embedded store."""
    home = tmp_path_factory.mktemp("home")
    with running(FOLDER, ASYNCJOBS_HOME=str(home)) as address:
        yield address


async def test_a_stream_shows_progress_and_ends_with_the_result(address: str) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=LIMIT_S) as client:
        answer = await client.post("/words", content="a b " * 10)
        url = f"{answer.headers['Location']}/events"
        async with client.stream("GET", url) as response:
            assert response.headers["Content-Type"].startswith("text/event-stream")
            *progress, end = [event async for event in events_of(response)]
    assert end == ("end", {"state": "succeeded", "result": {"a": 10, "b": 10}})
    assert {name for name, _ in progress} == {"progress"}


async def test_a_client_that_leaves_lets_the_job_go_on(address: str) -> None:
    async with httpx.AsyncClient(base_url=address, timeout=LIMIT_S) as client:
        path = (await client.post("/words", content="a b " * 10)).headers["Location"]
        async with client.stream("GET", f"{path}/events") as response:
            async for name, _ in events_of(response):
                assert name == "progress"
                break
        await state_of(client, path, "succeeded")


def test_the_requests_of_the_readme_work(address: str) -> None:
    enqueue, look, follow = (
        line.replace("localhost:8001", address) for line in curl_lines(FOLDER / "README.md")
    )
    head, _, body = curl(enqueue).partition("\n\n")
    assert " 202 Accepted" in head
    job = json.loads(body)["id"]
    assert json.loads(curl(look.replace("ID", job)))["id"] == job
    assert '"result": {"to": 2, "be": 2, "or": 1, "not": 1}' in curl(follow.replace("ID", job))
