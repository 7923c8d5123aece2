"""examples/crawler: its client and its site, many waits at once, and whole runs."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, asynccontextmanager
from types import ModuleType
from typing import Any

import anyio
import pytest

from asyncjobs import JobDiscarded, Worker
from asyncjobs.testing.servers import start_server
from tests.examples.kit import at_work, loaded
from tests.kit.environment import LIMIT_S, ROOT

EXAMPLE = ROOT / "examples" / "crawler"
RUN_LIMIT_S = 60


@pytest.fixture
def modules() -> Iterator[tuple[ModuleType, ModuleType, ModuleType]]:
    with loaded(EXAMPLE, "fetch", "tasks", "website") as (fetch, tasks, website):
        yield fetch, tasks, website


@pytest.fixture
def fetch(modules: tuple[ModuleType, ...]) -> ModuleType:
    return modules[0]


@pytest.fixture
def tasks(modules: tuple[ModuleType, ...]) -> ModuleType:
    return modules[1]


@pytest.fixture
def website(modules: tuple[ModuleType, ...]) -> ModuleType:
    return modules[2]


# The client


NewFetcher = Callable[..., Any]


@pytest.fixture
def new_fetcher(fetch: ModuleType) -> NewFetcher:
    def new(connections: int = 5, timeout_s: float = LIMIT_S, max_bytes: int = 1 << 20) -> Any:
        return fetch.Fetcher(asyncio.Semaphore(connections), timeout_s, max_bytes)

    return new


@asynccontextmanager
async def answering(raw: bytes | None) -> AsyncIterator[str]:
    """The URL of a server with this answer to everything; None: it never answers."""
    over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if raw is None:
            await over.wait()
        else:
            writer.write(raw)
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        try:
            yield f"http://{host}:{port}/"
        finally:
            over.set()


@pytest.mark.anyio
async def test_a_page_is_fetched_as_text(new_fetcher: NewFetcher) -> None:
    raw = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ncafé".encode()
    async with answering(raw) as url:
        assert await new_fetcher().get(url) == "café"


@pytest.mark.anyio
@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 503 Service Unavailable\r\n\r\n",
        b"HTTP/1.1 429 Too Many Requests\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
    ids=["503", "429", "nonsense", "nothing", "endless head"],
)
async def test_what_may_get_better_is_a_failure(
    raw: bytes, new_fetcher: NewFetcher, fetch: ModuleType
) -> None:
    async with answering(raw) as url:
        with pytest.raises(fetch.FetchFailed, match=re.escape(url)):
            await new_fetcher().get(url)


@pytest.mark.anyio
async def test_a_server_that_is_not_there_is_a_failure(
    new_fetcher: NewFetcher, fetch: ModuleType
) -> None:
    async with answering(b"") as url:
        pass
    with pytest.raises(fetch.FetchFailed, match="ConnectionRefusedError"):
        await new_fetcher().get(url)


@pytest.mark.anyio
async def test_a_fetch_that_takes_too_long_is_a_failure(
    new_fetcher: NewFetcher, fetch: ModuleType
) -> None:
    async with answering(None) as url:
        with pytest.raises(fetch.FetchFailed, match=r"no answer within 0\.05 s"):
            await new_fetcher(timeout_s=0.05).get(url)


@pytest.mark.anyio
async def test_what_is_not_there_or_not_wanted_stays_so(
    new_fetcher: NewFetcher, fetch: ModuleType
) -> None:
    async with answering(b"HTTP/1.1 404 Not Found\r\n\r\n") as url:
        with pytest.raises(fetch.NotThere, match="404 Not Found"):
            await new_fetcher().get(url)
    async with answering(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001) as url:
        with pytest.raises(fetch.NotThere, match="longer than 1,000 bytes"):
            await new_fetcher(max_bytes=1000).get(url)
    with pytest.raises(fetch.NotThere, match="only http://"):
        await new_fetcher().get("ftp://127.0.0.1/")


# The job


def test_links_of_the_same_site_are_taken_once(tasks: ModuleType) -> None:
    html = "".join(
        f'<a href="{link}">'
        for link in ("b", "/c#top", "/c", "http://other:1/x", "mailto:x", "http://here:1/d")
    )
    found = tasks.links_of(html, "http://here:1/a/")
    assert found == ["http://here:1/a/b", "http://here:1/c", "http://here:1/d"]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with start_server("valkey") as server:
        monkeypatch.setenv("ASYNCJOBS_URL", server.url)
        yield


async def results_of(tasks: ModuleType, index: str) -> Counter[str]:
    """Crawl all that the index leads to; how the pages ended."""
    first = await (await tasks.crawl.options(id=index).enqueue(index)).result(timeout=LIMIT_S)
    endings = Counter(["fetched"])
    for link in first["links"]:
        try:
            page = await tasks.crawl.handle(link).result(timeout=LIMIT_S)
        except JobDiscarded:
            endings["not there"] += 1
        else:
            endings["fetched"] += 1
            assert page["new"] == 0, "the index has named all pages"
    assert first["new"] == len(first["links"])
    return endings


@pytest.mark.anyio
@pytest.mark.usefixtures("store")
async def test_one_worker_waits_for_all_pages_at_once(
    tasks: ModuleType, website: ModuleType
) -> None:
    pages = 300
    everybody = asyncio.Event()

    class Gated(website.Site):  # type: ignore[name-defined, misc]
        """No page is given before all have been asked for."""

        async def pause(self, path: str) -> None:
            if path != "/":
                if self.waiting == pages:
                    everybody.set()
                await everybody.wait()

    async with Gated(pages, 0) as site, Worker(tasks.app, concurrency=pages, grace=1):
        with anyio.fail_after(LIMIT_S):
            assert await results_of(tasks, site.index) == {"fetched": pages, "not there": 1}
        assert (site.most_waiting, site.requests) == (pages, pages + 1)


@pytest.mark.anyio
@pytest.mark.usefixtures("store")
async def test_connections_are_bounded_whatever_the_concurrency(
    tasks: ModuleType, website: ModuleType, new_fetcher: NewFetcher, monkeypatch: Any
) -> None:
    monkeypatch.setattr(tasks, "fetcher", new_fetcher(connections=7))
    async with website.Site(60, 0.01) as site, Worker(tasks.app, concurrency=60, grace=1):
        with anyio.fail_after(LIMIT_S):
            await results_of(tasks, site.index)
        assert site.most_waiting <= 7


@pytest.mark.anyio
@pytest.mark.usefixtures("store")
async def test_a_page_that_fails_is_tried_again(
    tasks: ModuleType, website: ModuleType, fetch: ModuleType, monkeypatch: Any
) -> None:
    failed: list[str] = []

    class Flaky(website.Site):  # type: ignore[name-defined, misc]
        """Breaks off the first answer of one page."""

        async def pause(self, path: str) -> None:
            if path == "/page/1" and path not in failed:
                failed.append(path)
                raise OSError("planted fault")

    async with Flaky(5, 0) as site, Worker(tasks.app, grace=1):
        with anyio.fail_after(LIMIT_S):
            assert await results_of(tasks, site.index) == {"fetched": 5, "not there": 1}
        assert failed == ["/page/1"]
        assert site.requests == 7


# Whole runs


def environment() -> dict[str, str]:
    # A setting of the user's own worker, which the example keeps away from its worker.
    return {**os.environ, "PYTHONPATH": str(ROOT), "ASYNCJOBS_WORKER_CONCURRENCY": "none"}


def crawl(*args: str, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *args]
    if before:
        command = ["/bin/sh", "-c", f'{before} && exec "$@"', "sh", *command]
    return subprocess.run(
        command,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=RUN_LIMIT_S,
        check=False,
    )


def crawl_at_work(*before: str) -> AbstractContextManager[tuple[subprocess.Popen[str], int]]:
    """A run that waits for its index, and the pid of its worker."""
    command = [*before, sys.executable, str(EXAMPLE), "--pages", "20", "--wait", "30"]
    return at_work(command, environment())


def rows(output: str) -> dict[str, str]:
    """The rows of the report: name and text."""
    return dict(re.findall(r"^(\w[\w ]*?) {2,}(.*)$", output, re.MULTILINE))


def test_a_run_fetches_every_page() -> None:
    done = crawl("--pages", "100", "--wait", "0.2", "--connections", "60")
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(done.stdout)
    assert found["pages"] == "100 fetched, 1 not there, 101 requests"
    assert found["ideal"] == "0.60 s, 3 waits one after another"
    assert found["one by one"] == "20 s"
    match = re.fullmatch(r"(\d+) requests waited at the same time", found["at once"])
    assert match is not None
    assert 1 <= int(match[1]) <= 60
    assert re.fullmatch(
        r"\d+\.\d\d s from the first request to the last result, \d+\.\d\d times the ideal",
        found["took"],
    )


def test_what_is_not_done_in_time_is_said() -> None:
    done = crawl("--pages", "5", "--wait", "30", "--timeout", "1")
    assert done.returncode == 1
    assert done.stderr.startswith("not done within 1 s")
    assert "the last lines of the worker:" in done.stderr
    assert (rows(done.stdout)["took"], rows(done.stdout)["not ended"]) == ("not finished", "1")


def test_a_worker_that_is_killed_ends_the_run() -> None:
    with crawl_at_work() as (process, worker):
        os.kill(worker, signal.SIGKILL)
        output, errors = process.communicate(timeout=RUN_LIMIT_S)
        assert process.returncode == 1
    assert rows(output)["took"] == "not finished"
    assert "the worker has ended" in errors


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "term"])
def test_an_interrupt_stops_the_worker_too(how: signal.Signals) -> None:
    with crawl_at_work() as (process, worker):
        process.send_signal(how)
        _, errors = process.communicate(timeout=RUN_LIMIT_S)
        assert process.returncode == 130
    assert errors == "interrupted; worker, website and store are stopped\n"
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_one_in_the_background_is_stopped_by_sigterm() -> None:
    in_background = "sh", "-c", "trap '' INT; exec \"$@\"", "sh"
    with crawl_at_work(*in_background) as (process, _):
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=RUN_LIMIT_S)
    assert (process.returncode, errors.startswith("interrupted; ")) == (130, True)


def test_too_few_open_files_are_said_beforehand() -> None:
    done = crawl("--pages", "500", before="ulimit -n 400")
    assert done.returncode == 2
    assert "may open 400 files here, too few for --connections" in done.stderr
    assert "take at most 200, or raise ulimit -n" in done.stderr


def test_the_limit_of_open_files_is_raised_where_it_may_be() -> None:
    done = crawl("--pages", "300", "--wait", "0.5", before="ulimit -S -n 256")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done.stdout)["pages"] == "300 fetched, 1 not there, 301 requests"


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("--pages", "0"), "'0' is not a whole number of at least 1"),
        (("--connections", "x"), "'x' is not a whole number"),
        (("--wait", "31"), "31 is not from 0 to 30"),
    ],
)
def test_a_wrong_option_is_named(args: tuple[str, ...], text: str) -> None:
    done = crawl(*args)
    assert done.returncode == 2
    assert text in done.stderr
