"""Dependencies as both checkers see them: a parameter has the type of what is made for it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import assert_type

from asyncjobs import INJECTED, AsyncJobs, Depends, JobContext, JobRegistry

app = AsyncJobs()
registry = JobRegistry()


class Db:
    async def __aenter__(self) -> int:
        return 1

    async def __aexit__(self, *error: object) -> None: ...


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Db]]:
    yield {"main": Db()}


@registry.lifespan
@asynccontextmanager
async def clients() -> AsyncIterator[list[Db]]:
    yield []


def get_settings() -> str:
    return "settings"


async def get_user(*, ctx: JobContext = INJECTED) -> int:
    return ctx.attempt


async def get_db(
    opened: dict[str, Db] = Depends(resources), settings: str = Depends(get_settings)
) -> AsyncGenerator[Db, None]:
    yield opened[settings]


def get_session(db: Db = Depends(get_db)) -> Iterator[tuple[Db]]:
    yield (db,)


@contextmanager
def get_lock() -> Iterator[bytes]:
    yield b""


assert_type(Depends(resources), dict[str, Db])
assert_type(Depends(clients), list[Db])
assert_type(Depends(get_settings), str)
assert_type(Depends(get_settings, scope="worker"), str)
assert_type(Depends(get_user), int)
assert_type(Depends(get_db), Db)
assert_type(Depends(get_session), tuple[Db])
assert_type(Depends(get_lock), bytes)
# What a function or a class gives is taken as it is, even if it could be entered.
assert_type(Depends(Db), Db)


@app.job(max_running=2)
async def report(
    day: str,
    *,
    db: Db = Depends(get_db),
    user: int = Depends(get_user),
    ctx: JobContext = INJECTED,
) -> str:
    return f"{day} {db} {user} {ctx.id}"


async def uses() -> None:
    await report.enqueue("monday")
    assert_type(await report("monday"), str)
    assert_type(await report("monday", db=Db()), str)
    with app.override(get_db, lambda: Db()):
        await report("monday")
    async with app.resources():
        await report("monday")
