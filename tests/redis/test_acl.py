"""The smallest user that asyncjobs can live with, as docs/guides/security.md shows it.

The rule is read from that page. The whole conformance suite runs as that user; its
commands are those that the code sends, and no others.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import settings

import asyncjobs.store.redis
from asyncjobs import AsyncJobs, ConfigError, Worker
from asyncjobs.model.clock import new_id
from asyncjobs.store.redis.backend import RedisBackend
from asyncjobs.store.seam import Clock, StoreSettings
from asyncjobs.testing import conformance
from asyncjobs.testing.conformance.store import MakeBackend
from asyncjobs.testing.servers import Server
from tests.conformance import spoiling
from tests.kit.environment import environment
from tests.model.test_store_machine import PACE, hold_to_the_model

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = Path(asyncjobs.store.redis.__file__).parent


def rule() -> list[str]:
    """The words of the page's rule after `ACL SETUSER <name>`."""
    page = (ROOT / "docs" / "guides" / "security.md").read_text()
    (block,) = re.findall(r"^```acl\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    words = block.replace("\\\n", " ").split()
    assert words[:3] == ["ACL", "SETUSER", "jobs"]
    return words[3:]


RULE = rule()
"""Read once, before any event loop runs."""


def allowed() -> set[str]:
    return {word.removeprefix("+") for word in RULE if word.startswith("+")}


class Users:
    """Users of one server that are made by the page's rule, each for one key prefix."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.names: set[str] = set()

    def url(self, prefix: str) -> str:
        name = f"jobs-{prefix}"
        if name not in self.names:
            words = [word.replace("asyncjobs:", f"{prefix}:") for word in RULE]
            self.server.command("ACL", "SETUSER", name, *words)
            self.names.add(name)
        return f"redis://{name}:<password>@127.0.0.1:{self.server.port}"

    def remove(self) -> None:
        if self.names:
            self.server.command("ACL", "DELUSER", *self.names)


@pytest.fixture(params=["valkey", "redis"])
def users(request: pytest.FixtureRequest, servers: Any) -> Iterator[Users]:
    made = Users(servers.get(request.param))
    yield made
    made.remove()


@pytest.fixture
def make_backend(users: Users) -> Iterator[MakeBackend]:
    def make(settings: StoreSettings, now_ms: Clock | None) -> RedisBackend:
        return RedisBackend(users.url(settings.prefix), settings, now_ms=now_ms)

    yield make
    keys = users.server.command("KEYS", "*test-*")
    if keys:
        users.server.command("DEL", *keys)


globals().update(conformance.suite())
# A queue of a server is spoiled as the server's owner, whoever is the user.
globals().update(spoil=spoiling.spoil, any_part=spoiling.any_part)


def test_any_calls_have_the_answers_of_the_model(users: Users) -> None:
    hold_to_the_model(
        lambda config, clock: RedisBackend(users.url(config.prefix), config, now_ms=clock),
        settings(PACE, max_examples=15),
    )
    users.server.command("FLUSHALL")


def test_the_rule_allows_what_the_code_sends_and_no_more(users: Users) -> None:
    known = {name.decode() for name in users.server.command("COMMAND", "LIST")}
    scripts = "\n".join(path.read_text() for path in PACKAGE.rglob("*.lua"))
    code = "\n".join(path.read_text() for path in PACKAGE.glob("*.py"))
    words = {*re.findall(r"'([A-Z]+)'", scripts), *re.findall(r"b\"([A-Z]+)\"", code)}
    sent = known & {word.lower() for word in words}
    # The driver's own: it names each connection, and goes to the database of the URL.
    sent |= {"client", "select"}
    # Denied on purpose: without it the page's warning is given, and all else works.
    sent.remove("config")
    # Only for apps with wait_replicas; the page says so.
    sent.remove("wait")
    assert {name.partition("|")[0] for name in allowed()} == sent


async def double(n: int) -> int:
    return 2 * n


async def test_a_worker_runs_as_that_user(users: Users) -> None:
    prefix = f"test-{new_id()}"
    app = AsyncJobs(users.url(prefix) + "/1", prefix=prefix)
    job = app.job(double)
    async with app, Worker(app):
        handle = await job.enqueue(21)
        assert await handle.result(timeout=20) == 42
        await job.options(delay=3600, id="later").enqueue(1)
        assert await job.handle("later").cancel()


@pytest.mark.parametrize(
    ("command", "code", "shown"),
    [
        ("check", 0, "healthy"),
        ("stats", 0, "store: "),
        ("jobs show nothing", 1, "nothing"),
        # This server keeps nothing on disk, and INFO tells that too.
        ("doctor", 1, "appendonly"),
    ],
)
def test_the_commands_work_as_that_user(users: Users, command: str, code: int, shown: str) -> None:
    prefix = f"test-{new_id()}"
    where = ["--url", users.url(prefix), "--prefix", prefix]
    done = subprocess.run(
        [sys.executable, "-m", "asyncjobs", *command.split(), *where],
        env=environment({}),
        capture_output=True,
        text=True,
        check=False,
    )
    output = done.stdout + done.stderr
    assert done.returncode == code, output
    assert shown in output
    assert "<password>" not in output


async def test_config_denied_is_a_warning(users: Users) -> None:
    prefix = f"test-{new_id()}"
    backend = RedisBackend(users.url(prefix), StoreSettings(prefix=prefix))
    try:
        info = await backend.open()
    finally:
        await backend.close()
    (warning,) = info.warnings
    assert "eviction policy" in warning
    assert "noeviction" in warning


@pytest.mark.parametrize(
    "command",
    [
        ["GET", "other:key"],
        ["SET", "other:key", "1"],
        ["CONFIG", "GET", "*"],
        ["KEYS", "*"],
        ["FLUSHALL"],
        ["ACL", "LIST"],
    ],
    ids=" ".join,
)
def test_that_user_may_do_nothing_else(users: Users, command: list[str]) -> None:
    name = urlsplit(users.url(f"test-{new_id()}")).username or ""
    reply = users.server.command("ACL", "DRYRUN", name, *command)
    assert reply != b"OK"
    assert b"no permissions" in reply or b"can't" in reply


async def test_a_user_without_rights_is_told_so(users: Users) -> None:
    prefix = f"test-{new_id()}"
    url = users.url(prefix)
    users.server.command("ACL", "SETUSER", f"jobs-{prefix}", "-@all")
    with pytest.raises(ConfigError, match="ACL"):
        await RedisBackend(url, StoreSettings(prefix=prefix)).open()
