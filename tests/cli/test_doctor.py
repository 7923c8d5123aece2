"""`asyncjobs doctor`: settings that lose jobs, and lines that mend them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from asyncjobs.store.inspect import Verdict
from asyncjobs.store.redis.diagnosis import findings
from asyncjobs.testing.servers import Server, ServerKind, available_servers, start_server
from tests.cli.operator import Ended, operate
from tests.cli.test_worker import closed_port

SAFE = {"appendonly": "yes", "appendfsync": "everysec", "lazyfree_lazy_expire": "yes"}
INFO = {
    "redis_version": "7.2.4",
    "server_name": "valkey",
    "valkey_version": "9.1.2",
    "maxmemory_policy": "noeviction",
    "maxmemory": "0",
    "used_memory": "1000000",
    "aof_enabled": "1",
    "role": "master",
    "connected_slaves": "0",
    "redis_mode": "standalone",
}
CONFIG = {"appendfsync": "everysec", "save": "", "timeout": "0", "min-replicas-to-write": "0"}


class Begin(Protocol):
    def __call__(self, **config: str) -> Server: ...


@pytest.fixture(params=["valkey", "redis"])
def begin(request: pytest.FixtureRequest) -> Iterator[Begin]:
    """Start a server with these lines of configuration (`_` stands for `-`)."""
    kind: ServerKind = request.param
    if kind not in available_servers():
        # Debian's server is no requirement; the wheel's has no build for Alpine and Windows.
        pytest.skip(f"no {kind} server on this machine")
    with ExitStack() as stack:

        def start(**config: str) -> Server:
            lines = {name.replace("_", "-"): value for name, value in config.items()}
            return stack.enter_context(start_server(kind, config=lines))

        yield start


def doctor(folder: Path, server: Server, *args: str) -> Ended:
    return operate(folder, "doctor", "--url", server.url, *args)


def found(folder: Path, server: Server, code: int = 0) -> dict[str, dict[str, Any]]:
    """The findings by their setting; `code` is how the command must end."""
    done = doctor(folder, server, "--json")
    assert (done.code, done.err) == (code, "")
    assert done.json()["healthy"] is (code == 0)
    told = done.json()["findings"]
    by_setting = {finding["setting"]: finding for finding in told}
    assert len(by_setting) == len(told)
    return by_setting


def test_a_safe_store(folder: Path, begin: Begin) -> None:
    server = begin(**SAFE)
    done = doctor(folder, server)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"store: {server.url}/0\n")
    assert done.row("verdict") == ["verdict", "setting", "found"]
    verdicts = {name: each["verdict"] for name, each in found(folder, server).items()}
    assert verdicts.pop("maxmemory") == "note"
    assert set(verdicts.values()) == {"ok"}
    assert set(verdicts) == {
        "version",
        "maxmemory-policy",
        "appendonly",
        "appendfsync",
        "replication",
        "timeout",
        "lazyfree-lazy-expire",
        "clock",
    }


@pytest.mark.parametrize(
    ("setting", "config", "verdict", "change"),
    [
        ("appendonly", {"appendonly": "no", "save": '""'}, "problem", "CONFIG SET appendonly yes"),
        (
            "appendonly",
            {"appendonly": "no", "save": "3600 1"},
            "problem",
            "CONFIG SET appendonly yes",
        ),
        ("appendfsync", {"appendfsync": "no"}, "problem", "CONFIG SET appendfsync everysec"),
        (
            "maxmemory-policy",
            {"maxmemory_policy": "allkeys-lru"},
            "problem",
            "CONFIG SET maxmemory-policy noeviction",
        ),
        (
            "maxmemory-policy",
            {"maxmemory_policy": "volatile-ttl"},
            "warning",
            "CONFIG SET maxmemory-policy noeviction",
        ),
        ("timeout", {"timeout": "30"}, "warning", "CONFIG SET timeout 0"),
        (
            "lazyfree-lazy-expire",
            {"lazyfree_lazy_expire": "no"},
            "warning",
            "CONFIG SET lazyfree-lazy-expire yes",
        ),
    ],
)
def test_following_the_advice_mends_it(
    folder: Path, begin: Begin, setting: str, config: dict[str, str], verdict: str, change: str
) -> None:
    server = begin(**SAFE | config)
    finding = found(folder, server, 1 if verdict == "problem" else 0)[setting]
    assert finding["verdict"] == verdict
    assert finding["change"][0] == change
    server.command(*change.split())
    assert found(folder, server)[setting]["verdict"] == "ok"


def test_a_replica_and_its_primary(folder: Path, begin: Begin) -> None:
    primary, replica = begin(**SAFE), begin(**SAFE)
    replica.command("REPLICAOF", "127.0.0.1", primary.port)
    finding = found(folder, replica, 1)["replication"]
    assert finding["verdict"] == "problem"
    assert finding["change"] == [f"use the primary in the store URL: 127.0.0.1:{primary.port}"]


def test_a_server_that_denies_config(folder: Path, begin: Begin) -> None:
    server = begin(**SAFE)
    server.command("ACL", "SETUSER", "default", "-config")
    findings = found(folder, server)
    assert {name for name, each in findings.items() if each["verdict"] == "note"} == {
        "appendfsync",
        "timeout",
        "maxmemory",
        "lazyfree-lazy-expire",
    }
    assert findings["maxmemory-policy"]["verdict"] == "ok"


@pytest.mark.unaudited("memory is filled with a key that is not a store's")
def test_a_nearly_full_store(folder: Path, begin: Begin) -> None:
    server = begin(**SAFE)
    # Enough that the buffers of the next connections make no difference.
    server.command("SETRANGE", "filler", 50_000_000, "x")
    used = int(server.command("INFO", "memory").decode().split("used_memory:")[1].split()[0])
    server.command("CONFIG", "SET", "maxmemory", used * 10 // 9)
    finding = found(folder, server)["maxmemory"]
    assert finding["verdict"] == "warning"
    server.command(*finding["change"][0].partition("or ")[2].split())
    assert found(folder, server)["maxmemory"]["verdict"] == "ok"


def test_the_embedded_store_is_safe(folder: Path) -> None:
    if "valkey" not in available_servers():
        # It is the server from the wheel, which has no build for Alpine and Windows.
        pytest.skip("no embedded store on this machine")
    (folder / "pyproject.toml").touch()
    done = operate(folder, "doctor", "--json")
    assert done.code == 0
    assert done.json()["store"] == f"embedded:{folder / '.asyncjobs'}"


def test_memory_is_no_store_for_jobs(folder: Path) -> None:
    done = operate(folder, "doctor", "--url", "memory:")
    assert done.code == 1
    assert "jobs end with it" in done.out


def test_an_unreachable_store(folder: Path) -> None:
    url = f"redis://127.0.0.1:{closed_port()}"
    done = operate(folder, "doctor", "--url", url, "--json")
    assert done.code == 3
    assert done.json()["healthy"] is False
    assert f"Error: the store at {url}/0 is not available" in done.err


def test_wrong_credentials(folder: Path, begin: Begin) -> None:
    server = begin(requirepass="sesame")
    done = operate(folder, "doctor", "--url", server.url.replace("sesame", "wrong"))
    assert (done.code, done.out) == (2, "")
    assert "refused the credentials" in done.err


def verdict(setting: str, info: dict[str, str], config: dict[str, str], skew_ms: int = 0) -> str:
    (finding,) = [f for f in findings(INFO | info, config, skew_ms) if f.setting == setting]
    assert finding.change or finding.verdict in (Verdict.OK, Verdict.NOTE)
    return finding.verdict


@pytest.mark.parametrize(
    ("setting", "info", "expected"),
    [
        ("version", {"redis_version": "6.2.14", "server_name": "redis"}, "problem"),
        ("version", {"redis_version": "7.0.15", "server_name": "redis"}, "ok"),
        ("cluster", {"redis_mode": "cluster"}, "problem"),
        ("cluster", {"server_mode": "cluster"}, "problem"),
        ("replication", {"connected_slaves": "2"}, "warning"),
        ("disk", {"aof_last_write_status": "err"}, "problem"),
        ("maxmemory-policy", {"maxmemory_policy": "odd"}, "note"),
    ],
)
def test_from_what_info_says(setting: str, info: dict[str, str], expected: str) -> None:
    assert verdict(setting, info, CONFIG) == expected


def test_from_what_config_says() -> None:
    assert (
        verdict("replication", {"connected_slaves": "2"}, CONFIG | {"min-replicas-to-write": "1"})
        == "ok"
    )
    snapshots = CONFIG | {"save": "3600 1"}
    off = {"aof_enabled": "0", "rdb_last_bgsave_status": "err"}
    assert verdict("disk", off, snapshots) == "problem"
    assert verdict("appendonly", off, {}) == "problem"
    assert verdict("appendfsync", {}, CONFIG | {"appendfsync": "always"}) == "ok"


@pytest.mark.parametrize(
    ("skew_ms", "expected"), [(0, "ok"), (-900, "ok"), (2500, "warning"), (-2500, "warning")]
)
def test_clocks_that_differ(skew_ms: int, expected: str) -> None:
    assert verdict("clock", {}, CONFIG, skew_ms) == expected
