"""A folder that is deleted or replaced while somebody uses its store: nobody is left unaware."""

from __future__ import annotations

import asyncio
import logging
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from asyncjobs import AsyncJobs, StoreUnavailable, Worker
from asyncjobs.store.embedded import backend as embedded_backend
from asyncjobs.store.embedded import guardian
from asyncjobs.store.embedded.folder import StoreFolder
from asyncjobs.store.embedded.joining import Hold, join
from asyncjobs.store.embedded.locks import FileLock
from tests.embedded.kit import Store
from tests.kit.environment import LIMIT_S
from tests.kit.waiting import until

pytestmark = pytest.mark.anyio


def delete(folder: Path) -> None:
    shutil.rmtree(folder)


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("moved"))


def delete_locks(folder: Path) -> None:
    for name in ("lock", "users", "guardian"):
        (folder / name).unlink()


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_backend, "FOLDER_CHECK_S", 0.05)


async def echo(number: int) -> int:
    return number


async def told(caplog: pytest.LogCaptureFixture, text: str) -> None:
    with anyio.fail_after(LIMIT_S):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("gone", [delete, move_away, delete_locks])
async def test_a_user_says_so_and_takes_no_new_jobs(
    store: Store, caplog: pytest.LogCaptureFixture, gone: Callable[[Path], None]
) -> None:
    caplog.set_level(logging.ERROR, "asyncjobs")
    app = AsyncJobs(f"embedded:{store.folder}", connect_timeout=0.5)
    job = app.job(name="echo")(echo)
    async with app:
        before = await job.enqueue(1)
        await asyncio.to_thread(gone, store.folder)
        await told(caplog, "its folder was deleted or replaced")
        assert str(store.folder) in caplog.text
        with pytest.raises(StoreUnavailable, match="start this process again"):
            await job.enqueue(2)
        # What was stored before is run: nobody else can.
        async with Worker(app):
            assert await before.result(LIMIT_S) == 1
        assert caplog.text.count("its folder was deleted") == 1
    await asyncio.to_thread(shutil.rmtree, store.folder.with_name("moved"), True)


def waits(pid: int) -> bool:
    """For a lock that somebody else holds, as the guardian does while it has users."""
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and str(pid) in line.split() for line in lines)


@pytest.mark.skipif(sys.platform != "linux", reason="nothing else tells who waits for a lock")
@pytest.mark.parametrize("gone", [delete, delete_locks])
async def test_nobody_stops_a_store_whose_folder_is_gone_at_once(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gone: Callable[[Path], None]
) -> None:
    """Also when the guardian has come no further than to say that the server answers."""
    go = tmp_path / "go"
    source = Path(guardian.__file__).read_text()
    begin = "    def _stop_after_last_user(self, users: int) -> None:\n"
    assert source.count(begin) == 1
    waiting = f"        while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
    (tmp_path / "guardian.py").write_text(source.replace(begin, begin + waiting))
    monkeypatch.setattr(guardian, "__file__", str(tmp_path / "guardian.py"))
    hold = await asyncio.to_thread(join, StoreFolder(store.folder), threading.Event())
    running = store.record
    await asyncio.to_thread(gone, store.folder)
    go.touch()
    try:
        await asyncio.to_thread(until, lambda: waits(running.guardian) or not hold.is_guarded())
        assert hold.is_guarded()
    finally:
        hold.release()
    await asyncio.to_thread(until, lambda: not any(store.temporary.iterdir()))


async def test_a_folder_that_stays_is_nothing_to_speak_of(
    store: Store, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[bool] = []
    look = Hold.is_in_place

    def look_and_note(hold: Hold) -> bool:
        looks.append(look(hold))
        return looks[-1]

    monkeypatch.setattr(Hold, "is_in_place", look_and_note)
    app = AsyncJobs(f"embedded:{store.folder}")
    job = app.job(name="echo")(echo)
    async with app, Worker(app):
        (store.folder / "note").touch()
        with anyio.fail_after(LIMIT_S):
            while len(looks) < 3:
                assert await (await job.enqueue(7)).result(LIMIT_S) == 7
    assert all(looks)
    assert "deleted" not in caplog.text


def test_whose_lock_it_is(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    lock = FileLock(path)
    try:
        assert lock.is_in_place()
        path.unlink()
        assert not lock.is_in_place()
        path.touch()
        assert not lock.is_in_place()
    finally:
        lock.close()
