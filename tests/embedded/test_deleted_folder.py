"""A folder that is deleted or replaced while somebody uses its store: nobody is left unaware."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from asyncjobs import AsyncJobs, StoreUnavailable, Worker
from asyncjobs.store.embedded import backend as embedded_backend
from asyncjobs.store.embedded.joining import Hold
from asyncjobs.store.embedded.locks import FileLock
from tests.embedded.kit import Store
from tests.kit.environment import LIMIT_S

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
