"""An exception of which nothing can be asked is a failed attempt like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from asyncjobs import AsyncJobs, Discard, RetryPolicy, constant
from asyncjobs.events import Events
from asyncjobs.guard import guarded
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.job import State, TakenJob
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.model.settlement import Settlement, SettlementKind
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.retry import is_cancellation, is_on_purpose
from asyncjobs.store.memory.lease import CAPABILITIES
from asyncjobs.worker.engine.attempt import Attempt, Crew, Reason
from asyncjobs.worker.engine.error_text import describe
from asyncjobs.worker.engine.settling import Settler


def refuse(*_: object) -> Any:
    raise SystemExit("planted: not to be asked")


class Textless(Exception):
    __str__ = __repr__ = refuse


class Causeless(Exception):
    __cause__ = property(refuse)  # type: ignore[assignment]


class Contextless(Exception):
    __context__ = property(refuse)  # type: ignore[assignment]


class Noteless(Exception):
    __notes__ = property(refuse)


class Classless(Exception):
    __class__ = property(refuse)  # type: ignore[assignment]


class Memberless(ExceptionGroup[Exception]):
    exceptions = property(refuse)  # type: ignore[assignment]


class Endless(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Sequence[Any]:  # type: ignore[override]
        return (self,)


class Inseparable(ExceptionGroup[Exception]):
    split = derive = refuse


class Odd(type):
    def __getattribute__(cls, name: str) -> Any:
        if name in ("__qualname__", "__module__", "__name__"):
            refuse()
        return super().__getattribute__(name)


class Nameless(Exception, metaclass=Odd):
    pass


WICKED: dict[str, Callable[[], BaseException]] = {
    "text": Textless,
    "cause": lambda: Causeless("planted"),
    "context": lambda: Contextless("planted"),
    "notes": lambda: Noteless("planted"),
    "class": lambda: Classless("planted"),
    "members": lambda: Memberless("planted", [ValueError()]),
    "endless": lambda: Endless("planted", [ValueError()]),
    "split": lambda: Inseparable("planted", [ValueError()]),
    "name": lambda: Nameless("planted"),
    "many": lambda: ExceptionGroup("planted", [ValueError()] * 100_000),
    "inside": lambda: ExceptionGroup("planted", [Textless(), Causeless()]),
}


async def subject() -> None:
    """The job function of these tests."""


def ended(error: BaseException, *, attempt: int, reason: Reason | None = None) -> Settlement | None:
    app = AsyncJobs("memory:")
    job: Any = app.job(name="subject", retry=RetryPolicy(3, constant(2)))(subject)
    raw = Envelope("subject", [], {}, enqueued_ms=1, attempt=attempt).encode()
    taken = TakenJob("default", "id-1", 2, b"1-1", raw, 0, 1)
    settings = AppSettings()
    crew = Crew(settings, "worker-1", lambda *_: None)
    made = Attempt(taken, Envelope.decode(raw), job, crew, 1)
    if reason is not None:
        made.stop(reason)
    return Settler(settings, Events(), lambda: 0.0, "worker-1", CAPABILITIES).error(made, error)


@pytest.mark.parametrize("what", WICKED)
def test_it_is_tried_again_and_its_words_are_kept(what: str) -> None:
    settlement = ended(WICKED[what](), attempt=1)
    assert settlement is not None
    assert settlement.kind is SettlementKind.RESCHEDULE
    (past,) = Envelope.decode(settlement.envelope).headers.errors()
    assert past.type
    assert past.message


@pytest.mark.parametrize("what", WICKED)
def test_after_its_last_attempt_it_is_dead(what: str) -> None:
    settlement = ended(WICKED[what](), attempt=3)
    assert settlement is not None
    assert settlement.state is State.DEAD
    assert settlement.dead_letter is not None
    told, _ = read_dead_letter(settlement.dead_letter)
    assert (told.reason, bool(told.error_type)) == ("exhausted", True)


@pytest.mark.parametrize("what", WICKED)
def test_a_stop_a_cancel_and_a_lost_lease_mean_what_they_do(what: str) -> None:
    stopped = ended(WICKED[what](), attempt=1, reason=Reason.SHUTDOWN)
    assert stopped is not None
    assert stopped.kind is SettlementKind.RELEASE
    cancelled = ended(WICKED[what](), attempt=1, reason=Reason.CANCEL)
    assert cancelled is not None
    assert cancelled.state is State.CANCELLED
    assert ended(WICKED[what](), attempt=1, reason=Reason.LEASE_LOST) is None
    late = ended(WICKED[what](), attempt=1, reason=Reason.TIMEOUT)
    assert late is not None
    assert late.kind is SettlementKind.RESCHEDULE


def test_a_discard_whose_reason_has_no_text_is_one() -> None:
    discard = Discard("planted")
    discard.reason = Textless()  # type: ignore[assignment]
    settlement = ended(discard, attempt=1)
    assert settlement is not None
    assert settlement.state is State.DISCARDED
    assert settlement.outcome is not None
    assert "could not be made" in Outcome.decode(settlement.outcome).reason


@pytest.mark.parametrize("what", WICKED)
def test_its_words_are_of_bounded_size_and_handlers_do_not_see_it(what: str) -> None:
    told = describe(WICKED[what]())
    assert told.kind
    assert told.trace
    assert max(map(len, told[:3])) < 20_000
    if what in ("text", "cause", "context", "members", "inside", "endless", "many"):
        assert told.shown is None


def test_a_long_row_of_causes_is_no_longer_written_than_is_soon_done() -> None:
    error: Exception = ValueError("first")
    for number in range(guarded.MOST_LINKED - 1):
        later = ValueError(f"later {number}")
        later.__cause__ = later.__context__ = error
        error = later
    assert describe(error).shown is error
    last = ValueError("last")
    last.__cause__ = error
    told = describe(last)
    assert told.shown is None
    assert told.trace.endswith("ValueError: last\n(more than 200 errors are linked with it)")


def test_what_is_a_cancellation_and_what_is_on_purpose() -> None:
    cancelled = asyncio.CancelledError()
    assert is_cancellation(cancelled)
    assert is_cancellation(BaseExceptionGroup("g", [cancelled]))
    assert not is_cancellation(BaseExceptionGroup("g", [cancelled, ValueError()]))
    assert is_on_purpose(ExceptionGroup("g", [Discard()]))
    assert not any(is_on_purpose(make()) or is_cancellation(make()) for make in WICKED.values())
