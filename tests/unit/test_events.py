from __future__ import annotations

import logging

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.events import Event, Events, JobEnqueued, JobEvent, JobStarted, WorkerQuiet
from asyncjobs.model.refs import JobRef

ENQUEUED = JobEnqueued(JobRef("mail", "1"), "tasks.send", True)
STARTED = JobStarted(JobRef("mail", "1"), "tasks.send", 1, 3)


def test_listeners_get_their_kind_in_order_of_their_coming() -> None:
    events, heard = Events(), list[tuple[str, Event]]()
    events.on(JobEvent, lambda event: heard.append(("all", event)))
    events.on(JobStarted, lambda event: heard.append(("started", event)))
    for event in (ENQUEUED, STARTED, WorkerQuiet("w")):
        events.emit(event)
    assert heard == [("all", ENQUEUED), ("all", STARTED), ("started", STARTED)]


def test_active_only_while_somebody_listens() -> None:
    events = Events()
    assert not events.active
    remove = events.on(JobEvent, lambda event: None)
    assert events.active
    remove()
    remove()
    assert not events.active


def test_a_listener_that_raises_is_logged_and_disturbs_nobody(
    caplog: pytest.LogCaptureFixture,
) -> None:
    events, heard = Events(), list[Event]()

    def broken(event: Event) -> None:
        raise ValueError("broken")

    events.on(JobEvent, broken)
    events.on(JobEvent, heard.append)
    with caplog.at_level(logging.ERROR, "asyncjobs.events"):
        events.emit(ENQUEUED)
    assert heard == [ENQUEUED]
    assert "broken" in caplog.text


def test_a_listener_may_remove_itself_while_it_is_called() -> None:
    events, heard = Events(), list[Event]()

    def once(event: JobEvent) -> None:
        heard.append(event)
        remove()

    remove = events.on(JobEvent, once)
    events.emit(ENQUEUED)
    events.emit(ENQUEUED)
    assert heard == [ENQUEUED]


def test_an_app_takes_listeners_by_call_and_by_decorator() -> None:
    app, heard = AsyncJobs("memory:"), list[Event]()
    remove = app.on(JobStarted, heard.append)

    @app.on(JobEvent)
    def listen(event: JobEvent) -> None:
        heard.append(event)

    app.events.emit(STARTED)
    assert heard == [STARTED, STARTED]
    remove()
    app.events.emit(STARTED)
    listen(STARTED)  # still the function that it was
    assert heard == [STARTED] * 4


def test_who_comes_later_is_told_too() -> None:
    events, first, second = Events(), list[Event](), list[Event]()
    events.on(JobEvent, first.append)
    events.emit(ENQUEUED)
    events.on(JobEvent, second.append)
    events.emit(ENQUEUED)
    assert first == [ENQUEUED, ENQUEUED]
    assert second == [ENQUEUED]


def test_what_nobody_listens_to_is_not_wanted() -> None:
    events = Events()
    assert not events.wants(JobStarted)
    remove = events.on(JobEnqueued, lambda event: None)
    assert events.wants(JobEnqueued)
    assert not events.wants(JobStarted)
    events.on(Event, lambda event: None)
    assert events.wants(JobStarted)
    remove()
    assert events.wants(JobEnqueued)
