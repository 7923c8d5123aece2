"""What may listen: plain functions and async ones. What would never run is refused."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.errors import UsageError
from asyncjobs.events import Event, Events, JobEnqueued, JobEvent
from asyncjobs.model.refs import JobRef

ENQUEUED = JobEnqueued(JobRef("mail", "1"), "tasks.send", True)


async def listen(event: Event) -> None: ...
async def listen_with(extra: int, event: Event) -> None: ...


def generator(event: Event) -> Iterator[Event]:
    yield event


async def async_generator(event: Event) -> AsyncIterator[Event]:
    yield event


class Listens:
    async def method(self, event: Event) -> None: ...

    @staticmethod
    async def static(event: Event) -> None: ...

    @classmethod
    async def of_class(cls, event: Event) -> None: ...


class Callable:
    async def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("listener", [generator, async_generator, functools.partial(generator)])
def test_what_would_never_run_is_refused(listener: Any) -> None:
    app = AsyncJobs("memory:")
    for register in (lambda: app.on(JobEvent, listener), lambda: app.on(JobEvent)(listener)):
        with pytest.raises(UsageError, match=r"never run; write a plain function, or an async"):
            register()
    assert not app.events.active


@pytest.mark.parametrize(
    "listener",
    [
        listen,
        functools.partial(listen_with, 1),
        functools.partial(functools.partial(listen_with), 1),
        functools.partial(Callable()),
        Listens().method,
        Listens.static,
        Listens.of_class,
        Callable(),
    ],
)
def test_async_ones_have_an_inbox_until_they_are_removed(listener: Any) -> None:
    app = AsyncJobs("memory:")
    remove = app.on(JobEvent, listener)
    assert [inbox.listener for inbox in app.events.inboxes.all] == [listener]
    app.events.emit(ENQUEUED)
    assert len(app.events.inboxes.all[0]) == 1
    remove()
    assert app.events.inboxes.all == []
    assert not app.events.active


@pytest.mark.parametrize("listener", [None, 3, "print"])
def test_what_cannot_be_called_is_refused(listener: Any) -> None:
    with pytest.raises(UsageError, match="cannot be called"):
        Events().on(JobEvent, listener)


@pytest.mark.parametrize("kind", ["JobEnqueued", int, None, ENQUEUED, (JobEnqueued, JobEvent)])
def test_what_is_no_event_is_refused(kind: Any) -> None:
    """A name was accepted, and each enqueue raised TypeError after it had stored its job."""
    app = AsyncJobs("memory:")
    for register in (lambda: app.on(kind, print), lambda: app.on(kind)):
        with pytest.raises(
            UsageError, match=r"is not a class of event; write one of asyncjobs\.events"
        ):
            register()
    assert not app.events.active


def test_plain_ones_listen_whatever_they_are() -> None:
    heard: list[Any] = []

    class Plain:
        def __call__(self, event: Event) -> None:
            heard.append("object")

        def method(self, event: Event) -> None:
            heard.append("method")

    def with_number(number: int, event: Event) -> None:
        heard.append(number)

    events = Events()
    for listener in (Plain(), Plain().method, functools.partial(with_number, 7), print, list):
        events.on(JobEvent, listener)
    events.emit(ENQUEUED)
    assert heard == ["object", "method", 7]


def test_a_coroutine_that_a_lambda_returns_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events, heard = Events(), list[Event]()
    events.on(JobEvent, lambda event: listen(event))
    events.on(JobEvent, heard.append)
    with caplog.at_level(logging.ERROR, "asyncjobs.events"):
        events.emit(ENQUEUED)  # a coroutine left behind would warn, and a warning is an error
    assert heard == [ENQUEUED]
    assert "returned a coroutine, which nobody runs" in caplog.text
