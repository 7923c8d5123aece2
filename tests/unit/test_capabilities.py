"""What job functions need of a store is checked when the app opens, before anything is asked."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from asyncjobs import AsyncJobs, JobRegistry, MissingCapability, Worker
from asyncjobs.options import given
from asyncjobs.options.table import OPTIONS
from asyncjobs.store.memory import MemoryBackend
from asyncjobs.store.seam import Capabilities, StoreSettings

pytestmark = pytest.mark.anyio


async def plain() -> None: ...


async def strict() -> None: ...


class Store(MemoryBackend):
    """Says what it is told to, and remembers whether it was opened."""

    def __init__(self, *, unique: bool) -> None:
        super().__init__(StoreSettings())
        self.capabilities = replace(MemoryBackend.capabilities, unique=unique)
        self.is_opened = False

    async def open(self) -> object:  # type: ignore[override]  # whatever it says
        self.is_opened = True
        return await super().open()


@pytest.fixture(autouse=True)
def needing(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a time-out of a job's own needed a store that keeps unique keys."""
    table = [replace(row, needs="unique") if row.name == "timeout" else row for row in OPTIONS]
    monkeypatch.setattr(given, "OPTIONS", tuple(table))


def app_on(store: Store) -> AsyncJobs:
    app, registry = AsyncJobs(backend=store), JobRegistry()
    app.job(plain)
    registry.job(timeout=5, name="mail.strict")(strict)
    app.include(registry)
    return app


async def test_the_error_names_the_function_the_capability_and_the_next_step() -> None:
    store = Store(unique=False)
    app = app_on(store)
    wanted = r"mail\.strict has the option timeout.*memory:.*'unique'.*use a store that has it"
    with pytest.raises(MissingCapability, match=wanted):
        await app.__aenter__()
    assert not store.is_opened
    with pytest.raises(MissingCapability):
        async with Worker(app):
            pass


async def test_a_store_that_has_it_is_opened() -> None:
    store = Store(unique=True)
    async with app_on(store):
        assert store.is_opened


async def test_functions_that_need_nothing_open_on_any_store() -> None:
    store = Store(unique=False)
    app = AsyncJobs(backend=store)
    function = app.job(plain)
    assert function.needs == {}
    async with app:
        assert store.is_opened


def test_enqueueing_without_a_loop_is_checked_too() -> None:
    with pytest.raises(MissingCapability, match=r"mail\.strict"):
        app_on(Store(unique=False)).registry.functions()[0].enqueue_sync()


def test_each_need_is_a_capability() -> None:
    known = {field.name for field in fields(Capabilities)}
    assert {row.needs for row in OPTIONS if row.needs} <= known
