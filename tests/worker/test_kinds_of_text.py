"""Subclasses of str, as template renderers return them, are stored as their text."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.errors import EncodeError
from tests.worker.kit import LIMIT_S, working

pytestmark = pytest.mark.anyio


class Safe(str):
    """As Django's SafeString: asked for its text, it gives itself."""

    __slots__ = ()

    def __str__(self) -> str:
        return self

    def __html__(self) -> str:
        return self


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        return self.upper()


class Color(enum.StrEnum):
    RED = "red"


NESTED = {Safe("é"): [Safe("x"), {Safe("deep"): Safe("y")}], "plain": 1}
TEXTS = {"é": ["x", {"deep": "y"}], "plain": 1}


async def echo(value: Any, **more: Any) -> Any:
    return [value, more]


async def render(text: str) -> Any:
    return {Safe("body"): Safe(text), "more": [Loud("loud")]}


@pytest.mark.parametrize(("value", "text"), [(Safe("x"), "x"), (Loud("a"), "a"), (NESTED, TEXTS)])
async def test_as_an_argument(app: AsyncJobs, value: Any, text: Any) -> None:
    job = app.job(echo)
    async with working(app):
        handle = await job.enqueue(value, key=value)
        assert await handle.result(LIMIT_S) == [text, {"key": text}]
        (handle,) = await app.enqueue_many([job.bind(value)])
        assert await handle.result(LIMIT_S) == [text, {}]


async def test_as_a_result(app: AsyncJobs) -> None:
    job = app.job(render)
    async with working(app):
        result = await (await job.enqueue("<b>")).result(LIMIT_S)
        assert result == {"body": "<b>", "more": ["loud"]}
        assert {type(text) for text in (*result, result["body"])} == {str}


async def test_as_an_id_and_a_queue(app: AsyncJobs) -> None:
    job = app.job(echo)
    async with working(app):
        handle = await job.options(id=Safe("id-1"), queue=Safe("default")).enqueue(1)
        assert await handle.result(LIMIT_S) == [1, {}]
        assert await app.handle(Safe("default/id-1")).result(LIMIT_S) == [1, {}]


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (Color.RED, r"value\.value"),
        ([Color.RED], r"value\.value"),
        ({Color.RED: 1}, r"JSON keys are text"),
        ({Safe("a"): {1: 2}}, r"JSON keys are text"),
        ({Safe("a"): b"x"}, "base64"),
    ],
)
async def test_what_is_more_than_text_is_refused(app: AsyncJobs, value: Any, advice: str) -> None:
    job = app.job(echo)
    async with app:
        with pytest.raises(EncodeError, match=advice):
            await job.enqueue(value)


async def test_text_that_is_no_unicode_is_named(app: AsyncJobs) -> None:
    job = app.job(echo)
    async with app:
        with pytest.raises(EncodeError, match=r"'value' has text that is not Unicode"):
            await job.enqueue({Safe("a"): Safe("\ud800")})
