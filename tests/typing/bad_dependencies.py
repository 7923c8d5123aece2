"""Dependencies that both checkers refuse, on exactly the marked lines."""

from __future__ import annotations

from collections.abc import AsyncIterator

from asyncjobs import AsyncJobs, Depends

app = AsyncJobs()


async def get_name() -> AsyncIterator[str]:
    yield "name"


def get_number() -> int:
    return 1


@app.job
async def wrong_type(*, name: int = Depends(get_name)) -> None:  # error
    print(name)


async def needs_wrong(*, number: str = Depends(get_number)) -> str:  # error
    return number


async def wrong_calls() -> None:
    Depends(1)  # error
    Depends(get_number, scope="job")  # error
    await wrong_type(name="x")  # error
    app.override(get_number, 1)  # error
    app.job(max_running="2")  # error pyright: max_running
