"""What the tests of the web examples share: loading one, and running it as processes."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.kit.environment import LIMIT_S, environment
from tests.kit.program import Program


@contextmanager
def loaded(folder: Path, *names: str) -> Iterator[list[ModuleType]]:
    """The modules of an example, imported anew and by the names that it uses itself.

    Each example has modules called `tasks` and `web`: none is left behind.
    """
    own = {path.stem for path in folder.glob("*.py")} - {"__main__"}
    sys.path.insert(0, str(folder))
    try:
        yield [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(folder))
        for name in own:
            sys.modules.pop(name, None)


@asynccontextmanager
async def asgi_client(web: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a web application in this process, with its lifespan around."""
    transport = httpx.ASGITransport(web)
    async with (
        web.router.lifespan_context(web) as state,
        httpx.AsyncClient(transport=_WithState(transport, state), base_url="http://test") as client,
    ):
        yield client


class _WithState(httpx.AsyncBaseTransport):
    """Requests find the lifespan's state, as under a server."""

    def __init__(self, transport: httpx.ASGITransport, state: dict[str, Any] | None) -> None:
        app = transport.app

        async def with_state(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": dict(state or {})}, receive, send)

        transport.app = with_state
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)


class Command(Program):
    """A running `python -m ...`, and what it has written."""

    def __init__(self, folder: Path, *args: str, env: Mapping[str, str]) -> None:
        super().__init__([sys.executable, "-m", *args], folder, environment(env))

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match in the output."""
        found = re.search(pattern, self.wait_until(lambda text: re.search(pattern, text)))
        assert found is not None
        return found

    def stop(self) -> int:
        """Ask it to stop; the exit code."""
        self.process.terminate()
        return self.end()


@contextmanager
def running(folder: Path, **env: str) -> Iterator[str]:
    """The example's worker and web server as its README starts them; the address.

    `env` says where the store is.
    """
    with ExitStack() as stack:
        worker = stack.enter_context(Command(folder, "asyncjobs", "worker", "tasks:app", env=env))
        web = stack.enter_context(Command(folder, "uvicorn", "web:web", "--port", "0", env=env))
        worker.wait_for("worker started")
        address = web.wait_for(r"running on (http://127\.0\.0\.1:\d+)")[1]
        yield address
        assert web.stop() in (0, -15), web.text
        assert worker.stop() == 0, worker.text
        assert "Traceback" not in web.text, web.text


async def events_of(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(name, data) of each server-sent event."""
    name = ""
    async for line in response.aiter_lines():
        field, _, value = line.partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


async def state_of(client: httpx.AsyncClient, path: str, *expected: str) -> dict[str, Any]:
    """What the API says of the job once it is in one of these states."""
    body: dict[str, Any] = {}
    async with asyncio.timeout(LIMIT_S):
        while body.get("state") not in expected:
            body = (await client.get(path)).raise_for_status().json()
            await asyncio.sleep(0.01)
    return body


def curl_lines(readme: Path) -> list[str]:
    """The requests that a README shows, a line each."""
    text = readme.read_text().replace("\\\n", " ")
    return re.findall(r"^curl .*$", text, re.MULTILINE)


def curl(line: str) -> str:
    """What such a request answers; the test is skipped where there is no curl."""
    if shutil.which("curl") is None:
        pytest.skip("no curl on this machine")
    command = line.replace("curl ", "curl -sS ", 1)
    return subprocess.run(
        command, shell=True, capture_output=True, text=True, timeout=LIMIT_S, check=True
    ).stdout


@contextmanager
def at_work(
    command: Sequence[str], env: Mapping[str, str]
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A run of an example that has started its worker, and the worker's pid."""
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if match := re.search(r"^worker +pid (\d+)", line):
                    yield process, int(match[1])
                    break
        finally:
            # Told to end and not killed: it has a worker to stop.
            process.terminate()
            process.communicate(timeout=2 * LIMIT_S)
