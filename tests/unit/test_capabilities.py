"""What job functions need of a store is checked when the app opens, before anything is asked."""

from __future__ import annotations

from dataclasses import fields, replace

import anyio.to_thread
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
    needing = [replace(row, needs="unique") for row in OPTIONS if row.name == "timeout"]
    monkeypatch.setattr(given, "_NEEDING", tuple(needing))


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


async def test_an_option_of_one_enqueue_is_checked_too() -> None:
    store = Store(unique=False)
    app = AsyncJobs(backend=store)
    function = app.job(name="mail.lax")(plain)
    async with app:
        strict = function.options(timeout=5)
        wanted = r"mail\.lax has the option timeout.*'unique'.*leave timeout out"
        with pytest.raises(MissingCapability, match=wanted):
            await strict.enqueue()
        with pytest.raises(MissingCapability, match=wanted):
            await app.enqueue_many([function.bind(), strict.bind()])
        with pytest.raises(MissingCapability, match=wanted):
            await anyio.to_thread.run_sync(strict.enqueue_sync)
        assert await counts(app) == 0
        # Who takes the option away asks for nothing that a store would have to keep.
        await function.options(timeout=None).enqueue()
        assert await counts(app) == 1


async def test_a_function_that_is_registered_on_an_open_app_is_checked_too() -> None:
    store = Store(unique=False)
    app, registry = AsyncJobs(backend=store), JobRegistry()
    async with app:
        registry.job(timeout=5, name="mail.strict")(strict)
        app.include(registry)
        late = app.job(timeout=5, name="mail.late")(plain)
        for function in (*registry.functions(), late):
            with pytest.raises(MissingCapability, match=function.name):
                await function.enqueue()
        # Another opening finds them at once.
    with pytest.raises(MissingCapability, match=r"mail\.strict"):
        await app.__aenter__()


async def test_a_store_that_keeps_the_option_of_an_enqueue_takes_the_job() -> None:
    app = AsyncJobs(backend=Store(unique=True))
    function = app.job(plain)
    async with app:
        await function.options(timeout=5).enqueue()
        assert await counts(app) == 1


async def counts(app: AsyncJobs) -> int:
    """How many jobs are stored."""
    (found,) = await app.backend.inspect.queues.counts(["default"])
    return sum(found.ready)
