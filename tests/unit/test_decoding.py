"""What a worker makes of a taken job, whatever is stored of it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from asyncjobs import AsyncJobs, State
from asyncjobs.events import Events, JobDead
from asyncjobs.guard.untrusted import LAST_MS, MOST_COUNT
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.job import TakenJob
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.app import AppSettings
from asyncjobs.store.memory.lease import CAPABILITIES
from asyncjobs.worker.engine.attempt import Attempt, Crew
from asyncjobs.worker.engine.decoding import decode
from asyncjobs.worker.engine.settling import Settler
from tests.faults.records import nested

NOW_MS = 1_800_000_000_000
GOOD: dict[str, Any] = {"v": 1, "f": "subject", "n": 1, "e": 1}


async def subject(*args: Any) -> None:
    """The job function of these tests."""


class Case:
    def __init__(self) -> None:
        self.settings = AppSettings()
        self.hub = Events()
        self.dead: list[JobDead] = []
        self.hub.on(JobDead, self.dead.append)
        self.settler = Settler(self.settings, self.hub, lambda: 0.0, "worker-1", CAPABILITIES)
        self.app = AsyncJobs("memory:")
        self.app.job(name="subject")(subject)

    def decode(self, raw: bytes) -> Attempt | Settlement:
        job = TakenJob("default", "id-1", 2, b"1-1", raw, 0, NOW_MS)
        find, unstarted = self.app.registry.find, self.settler.unstarted
        crew = Crew(self.settings, "worker-1", lambda context, note: None)
        return decode(find, crew, unstarted, job, NOW_MS)

    def reason(self, raw: bytes) -> str:
        """Why these bytes are dead at once; they are kept as they are."""
        settlement = self.decode(raw)
        assert isinstance(settlement, Settlement)
        assert settlement.state is State.DEAD
        assert settlement.dead_letter is not None
        outcome, kept = read_dead_letter(settlement.dead_letter)
        assert kept == raw
        assert [event.reason for event in self.dead] == [outcome.reason]
        return f"{outcome.reason}: {outcome.message}"


@pytest.fixture
def case() -> Case:
    return Case()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("a", [nested(101)]),
        ("a", [nested(101, "dict")]),
        ("k", {"x": nested(101)}),
        ("o", {"timeout": nested(110)}),
        ("h", {"errors": [nested(110)]}),
        ("n", MOST_COUNT + 1),
        ("e", -1),
        ("e", LAST_MS + 1),
        ("s", LAST_MS + 1),
        ("x", -1),
        ("h", {"crashes": -1}),
        ("h", {"crashes": True}),
        ("h", {"crashes_kept": 1.5}),
        ("h", {"crashes_kept": MOST_COUNT + 1}),
        ("o", {"max_attempts": 2**64 - 1}),
        ("o", {"timeout": 1e300}),
        ("f", "n" * 257),
    ],
)
def test_a_field_beyond_its_limits_makes_the_record_unreadable(
    case: Case, field: str, value: Any
) -> None:
    assert case.reason(orjson.dumps({**GOOD, field: value})).startswith("unreadable: ")


def test_values_may_be_nested_as_deep_as_an_enqueue_lets_them(case: Case) -> None:
    for value in (nested(100), nested(100, "dict")):
        attempt = case.decode(Envelope("subject", [value], {"k": value}, 1).encode())
        assert isinstance(attempt, Attempt)
        assert attempt.envelope.args == [value]
    # Many brackets alone are nothing: a list of a thousand short lists.
    assert isinstance(case.decode(Envelope("subject", [[[]] * 1000], {}, 1).encode()), Attempt)


def test_a_deep_record_of_a_later_release_is_unreadable_too(case: Case) -> None:
    """It could not be put back: what is that deep cannot be written."""
    assert case.reason(b'{"v":2,"f":' + b"[" * 300 + b"]" * 300 + b"}").startswith("unreadable")


def test_an_outcome_is_read_with_limits() -> None:
    for field, value in (
        ("n", -1),
        ("n", "1"),
        ("e", LAST_MS + 1),
        ("m", 3),
        ("b", ["x"]),
        ("r", nested(110)),
    ):
        raw = orjson.dumps({"s": "dead", field: value, "w": "w" * 300})
        with pytest.raises(BadRecord):
            Outcome.decode(raw)


def test_more_bytes_than_any_record_has_are_not_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("asyncjobs.model.codec.MAX_ENVELOPE", 1000)
    raw = Envelope("subject", ["x" * 1000], {}, 1).encode()
    with pytest.raises(BadRecord, match="more than any"):
        Envelope.decode(raw)
    with pytest.raises(BadRecord, match="more than any"):
        Envelope.decode(raw.replace(b'"v":1', b'"v":2'))


def test_whatever_is_raised_while_a_job_is_read_costs_that_job(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last guard: nobody has thought of this fault."""

    def find(name: str) -> Any:
        raise RuntimeError("a fault of our own")

    monkeypatch.setattr(case.app.registry, "find", find)
    assert "a fault of our own" in case.reason(orjson.dumps(GOOD))


def test_a_job_that_cannot_be_written_again_is_dead(
    case: Case, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempt = case.decode(orjson.dumps(GOOD))
    assert isinstance(attempt, Attempt)

    def again(envelope: Envelope, *_: object) -> bytes:
        raise RecursionError("too deep for whom writes it")

    monkeypatch.setattr(Envelope, "again", again)
    settlement = case.settler.error(attempt, ValueError("no"))
    assert settlement is not None
    assert settlement.state is State.DEAD
    assert [event.reason for event in case.dead] == ["unreadable"]
    assert "its end could not be recorded" in caplog.text


def test_a_newer_version_says_so_before_anything_else() -> None:
    with pytest.raises(NewerEnvelope):
        Envelope.decode(orjson.dumps({**GOOD, "v": 2, "e": -1, "n": MOST_COUNT + 1}))
