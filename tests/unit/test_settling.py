"""From the end of an attempt to its settlement, without a store."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

import orjson
import pytest

from asyncjobs import AsyncJobs, RateLimited, RetryPolicy, Snooze, State, constant, events
from asyncjobs.events import Events, JobRateLimited
from asyncjobs.jobs.middleware import Carry
from asyncjobs.model.attempt import AttemptInfo
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.gates import gate_header
from asyncjobs.model.headers import NO_HEADERS, Headers
from asyncjobs.model.job import NewJob, TakenJob
from asyncjobs.model.outcome import Outcome, read_dead_letter
from asyncjobs.model.settlement import MOST_EFFECT_BYTES, Effects, Settlement, SettlementKind
from asyncjobs.model.terms import Barrier, Gate, LimitKind, LimitRule, LimitUse, Terms
from asyncjobs.options.app import AppSettings
from asyncjobs.store.memory.lease import CAPABILITIES as MEMORY
from asyncjobs.worker.engine.attempt import BEGUN, Attempt, Crew, Reason
from asyncjobs.worker.engine.settling import Settler

SETTINGS = AppSettings(max_result=200, unknown_ttl_ms=60_000)
CAPABILITIES = replace(MEMORY, gates=False, flows=False)
"""Of a store that cannot keep all effects."""
NOW_MS = 1_800_000_000_000
CREW = Crew(SETTINGS, "worker-1", lambda context, note: None)


async def subject(values: list[int]) -> None:
    """The job function of these tests."""


class Case:
    """A settler, its log of events, and attempts to settle."""

    def __init__(self) -> None:
        self.hub = Events()
        self.heard: list[events.Event] = []
        self.hub.on(events.Event, self.heard.append)
        self.now_s = 1000.0
        self.settler = Settler(SETTINGS, self.hub, lambda: self.now_s, "worker-1", CAPABILITIES)
        app = AsyncJobs("memory:")
        self.function: Any = app.job(name="subject", retry=RetryPolicy(3, constant(2)))(subject)

    def job(self, raw: bytes, crashes: int = 0) -> TakenJob:
        return TakenJob("default", "id-1", 2, b"1-1", raw, crashes, NOW_MS)

    def attempt(self, *, attempt: int = 1, crashes: int = 0, **fields: Any) -> Attempt:
        envelope = Envelope("subject", [[1, 2]], {}, enqueued_ms=1, attempt=attempt, **fields)
        raw = envelope.encode()
        made = Attempt(self.job(raw, crashes), Envelope.decode(raw), self.function, CREW, NOW_MS)
        made.started_s = 999.0
        made.phase = BEGUN
        return made


@pytest.fixture
def case() -> Case:
    return Case()


def outcome(settlement: Settlement | None) -> Outcome:
    assert settlement is not None
    assert settlement.outcome is not None
    return Outcome.decode(settlement.outcome)


def later(settlement: Settlement | None) -> Envelope:
    assert settlement is not None
    assert settlement.kind in (SettlementKind.RESCHEDULE, SettlementKind.CLOSE)
    return Envelope.decode(settlement.envelope)


@pytest.mark.parametrize("value", [None, 0, "", [1, {"a": 2.5}], "ü☃"])
def test_a_value_is_kept(case: Case, value: Any) -> None:
    settlement = case.settler.value(case.attempt(), value)
    told = outcome(settlement)
    assert (told.state, told.value, told.unavailable) == (State.SUCCEEDED, value, "")
    assert settlement is not None
    assert settlement.result_ttl_ms == 300_000
    assert isinstance(case.heard[0], events.JobSucceeded)
    assert case.heard[0].duration_s == 1.0


def test_results_that_are_off_keep_nothing(case: Case) -> None:
    settlement = case.settler.value(case.attempt(options={"result_ttl": 0}), "value")
    assert settlement is not None
    assert (settlement.state, settlement.outcome) == (State.SUCCEEDED, None)


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ({1}, "set"),
        ((1,), "tuple"),
        (float("nan"), "nan"),
        (object(), "object"),
        ("x" * 300, "max_result=200"),
        ("\ud800", "surrogates not allowed"),
        ({1: 2}, "key 1"),
        (b"raw", "bytes"),
    ],
)
def test_a_value_that_cannot_be_kept_is_told_once(
    case: Case, caplog: pytest.LogCaptureFixture, value: Any, named: str
) -> None:
    told = outcome(case.settler.value(case.attempt(), value))
    assert told.state is State.SUCCEEDED
    assert named in told.unavailable
    assert "subject" in told.unavailable
    (record,) = caplog.records
    assert "result is not kept" in record.getMessage()
    assert isinstance(case.heard[0], events.JobSucceeded)


def test_a_value_nested_without_end_is_not_kept(case: Case) -> None:
    value: list[Any] = []
    value.append(value)
    assert "nested" in outcome(case.settler.value(case.attempt(), value)).unavailable


def test_a_retry_takes_the_arguments_as_they_were(case: Case) -> None:
    attempt = case.attempt()
    attempt.envelope.args[0].append(99)
    attempt.envelope.kwargs["ctx"] = object()
    settlement = case.settler.error(attempt, ValueError("no"))
    again = later(settlement)
    assert (again.args, again.kwargs, again.attempt) == ([[1, 2]], {}, 2)
    assert settlement is not None
    assert settlement.delay_ms == 2000


def carry_raises(attempt: AttemptInfo, trace: Any) -> Any:
    raise SystemExit("telemetry is broken")


def carry_cannot_be_kept(attempt: AttemptInfo, trace: Any) -> Any:
    return {"x": object()}


def carry_is_deep(attempt: AttemptInfo, trace: Any) -> Any:
    value: Any = 1
    for _ in range(200):
        value = [value]
    return {"x": value}


@pytest.mark.parametrize(
    "carry",
    [carry_raises, carry_cannot_be_kept, carry_is_deep],
    ids=["raises", "cannot be kept", "cannot be read again"],
)
def test_a_carry_that_fails_costs_no_trace(case: Case, carry: Carry) -> None:
    middlewares = case.settler.middlewares
    middlewares.add_carry(lambda attempt, trace: {**trace, "first": 1})
    middlewares.add_carry(carry)
    middlewares.add_carry(lambda attempt, trace: {**trace, "last": 1})
    carried = {"a": 1, "first": 1, "last": 1}
    attempt = case.attempt(headers=Headers({"t": {"a": 1}}))
    again = later(case.settler.error(attempt, ValueError("transient")))
    assert (again.attempt, again.headers.trace) == (2, carried)
    assert isinstance(case.heard[0], events.JobRetryScheduled)
    attempt = case.attempt(attempt=3, headers=Headers({"t": {"a": 1}}))
    settlement = case.settler.error(attempt, ValueError("final"))
    assert settlement is not None
    assert settlement.dead_letter is not None
    told, raw = read_dead_letter(settlement.dead_letter)
    assert (told.reason, Envelope.decode(raw).headers.trace) == ("exhausted", carried)


class Key(StrEnum):
    ONE = "one"


def test_a_carried_trace_is_stored_as_plain_json(case: Case) -> None:
    case.settler.middlewares.add_carry(lambda attempt, trace: {Key.ONE: (1, 2)})
    again = later(case.settler.error(case.attempt(), ValueError("transient")))
    assert (again.attempt, again.headers.trace) == (2, {"one": [1, 2]})


def test_a_trace_that_user_code_has_spoiled_is_read_anew(case: Case) -> None:
    """Everybody who sees an attempt sees its trace, and could write into it."""
    attempt = case.attempt(headers=Headers({"t": {"a": 1}}))
    attempt.info.trace["x"] = object()
    again = later(case.settler.error(attempt, ValueError("transient")))
    assert (again.attempt, again.headers.trace) == (2, {"a": 1})


def test_a_snooze_keeps_the_attempt(case: Case) -> None:
    assert later(case.settler.error(case.attempt(attempt=3), Snooze(5))).attempt == 3
    assert isinstance(case.heard[0], events.JobSnoozed)


class Busy(RateLimited):
    after = timedelta(minutes=2)


@pytest.mark.parametrize(
    ("error", "delay_ms"),
    [
        (RateLimited(5), 5_000),
        (RateLimited(after=timedelta(seconds=7)), 7_000),
        (Busy(), 120_000),
        (Busy(1), 1_000),
        (ExceptionGroup("two calls", [RateLimited(5), Snooze(9)]), 9_000),
    ],
)
def test_who_is_told_to_come_back_later_closes_the_keys(
    case: Case, error: Exception, delay_ms: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    uses = (
        LimitUse("api", "acme", LimitRule(LimitKind.CONCURRENCY, 5)),
        LimitUse("partner", "", LimitRule(LimitKind.RATE, 5, 1_000)),
    )
    attempt = case.attempt(attempt=3, headers=Headers(gate_header(Gate(uses))))
    settlement = case.settler.error(attempt, error)
    assert settlement is not None
    assert (settlement.kind, settlement.delay_ms) == (SettlementKind.CLOSE, delay_ms)
    assert later(settlement).attempt == 3
    (heard,) = case.heard
    assert isinstance(heard, JobRateLimited)
    assert (heard.delay_s, heard.closed) == (delay_ms / 1000, ("api acme", "partner"))
    assert (
        f"rate limited, again in {delay_ms / 1000:.1f} s; closes api acme, partner" in caplog.text
    )


def test_a_snooze_closes_nothing(case: Case) -> None:
    settlement = case.settler.error(case.attempt(), Snooze(5))
    assert settlement is not None
    assert settlement.kind is SettlementKind.RESCHEDULE


def test_a_failure_beside_it_is_a_failed_attempt(case: Case) -> None:
    error = ExceptionGroup("both", [RateLimited(5), ValueError()])
    assert later(case.settler.error(case.attempt(), error)).attempt == 2


def test_a_job_without_limits_closes_nothing(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for headers in (NO_HEADERS, Headers({"gate": "broken"})):
        assert later(case.settler.error(case.attempt(headers=headers), RateLimited(5))).attempt == 1
        heard = case.heard.pop()
        assert isinstance(heard, JobRateLimited)
        assert heard.closed == ()
    assert "closes no limit, for it has none" in caplog.text


def test_crashes_are_remembered_over_a_retry(case: Case) -> None:
    attempt = case.attempt(crashes=1, headers=Headers({"crashes": 1, "trace": "x"}))
    assert attempt.context.crashes == 2
    headers = later(case.settler.error(attempt, ValueError())).headers
    assert (headers.fields["crashes"], headers.fields["trace"]) == (2, "x")


def test_the_last_attempt_is_a_dead_letter(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    attempt = case.attempt(attempt=3)
    settlement = case.settler.error(attempt, ValueError("final"))
    assert settlement is not None
    assert settlement.state is State.DEAD
    assert settlement.dead_letter is not None
    told, raw = read_dead_letter(settlement.dead_letter)
    assert raw == attempt.job.envelope
    assert (told.reason, told.error_type, told.message) == ("exhausted", "ValueError", "final")
    assert outcome(settlement).message == "final"
    assert isinstance(case.heard[0], events.JobDead)
    (record,) = caplog.records
    assert (record.levelno, record.__dict__["job_id"]) == (logging.ERROR, "id-1")


class Unspeakable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize(
    "error", [Unspeakable(), ValueError("\ud800"), ValueError("x" * 10**6), RecursionError()]
)
def test_errors_that_are_hard_to_write_down(case: Case, error: Exception) -> None:
    settlement = case.settler.error(case.attempt(attempt=3), error)
    assert settlement is not None
    assert settlement.state is State.DEAD
    assert len(settlement.dead_letter or b"") < 100_000
    assert settlement.dead_letter is not None
    read_dead_letter(settlement.dead_letter)


@pytest.mark.parametrize("error", [None, ValueError(), asyncio.CancelledError()])
@pytest.mark.parametrize(
    ("reason", "kind", "state"),
    [
        (Reason.CANCEL, SettlementKind.FINISH, State.CANCELLED),
        (Reason.TIMEOUT, SettlementKind.RESCHEDULE, State.SCHEDULED),
    ],
)
def test_what_was_asked_for_stands(
    case: Case, error: BaseException | None, reason: Reason, kind: SettlementKind, state: State
) -> None:
    attempt = case.attempt()
    attempt.stop(reason)
    end = case.settler.value(attempt, 1) if error is None else case.settler.error(attempt, error)
    assert end is not None
    assert (end.kind, end.state) == (kind, state)


def test_a_time_out_is_named(case: Case) -> None:
    attempt = case.attempt(attempt=3, options={"timeout": 1.5})
    attempt.stop(Reason.TIMEOUT)
    told = outcome(case.settler.error(attempt, asyncio.CancelledError()))
    assert (told.error_type, told.message) == (
        "TimeoutError",
        "the attempt took longer than its 1.5 s",
    )


@pytest.mark.parametrize("error", [None, ValueError(), asyncio.CancelledError()])
def test_a_lost_lease_settles_nothing(case: Case, error: BaseException | None) -> None:
    attempt = case.attempt()
    attempt.stop(Reason.LEASE_LOST)
    end = case.settler.value(attempt, 1) if error is None else case.settler.error(attempt, error)
    assert end is None
    assert [type(event) for event in case.heard] == [events.JobLost]


def test_at_shutdown_what_did_not_return_is_given_back(case: Case) -> None:
    attempt = case.attempt()
    attempt.stop(Reason.SHUTDOWN)
    stopped = case.settler.error(attempt, asyncio.CancelledError())
    assert stopped is not None
    assert stopped.kind is SettlementKind.RELEASE
    assert case.settler.released == 1
    assert outcome(case.settler.value(attempt, "made it")).value == "made it"
    # Its clean-up failed: the worker has not let it finish, so nothing is spent.
    for error in (ValueError(), SystemExit(), ExceptionGroup("g", [ValueError()])):
        failed = case.settler.error(attempt, error)
        assert failed is not None
        assert failed.kind is SettlementKind.RELEASE
    assert case.settler.released == 4


def unknown(case: Case, raw: bytes, now_ms: int = NOW_MS) -> Settlement:
    problem = "no job function 'not.here'"
    return case.settler.unstarted.unknown(case.job(raw), "not.here", problem, now_ms)


def test_an_unknown_job_is_put_back_with_a_growing_delay(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    raw = Envelope("not.here", [1], {"k": 2}, enqueued_ms=1, attempt=2).encode()
    longest = 0
    for times in range(10):
        settlement = unknown(case, raw, NOW_MS + times)
        raw = settlement.envelope
        again = later(settlement)
        assert (again.args, again.kwargs, again.attempt) == ([1], {"k": 2}, 2)
        assert again.headers.fields == {"first_unknown_at": NOW_MS, "unknown_times": times + 1}
        most_ms = min(1000 * 2**times, 60_000)
        assert most_ms / 2 <= settlement.delay_ms <= most_ms
        longest = max(longest, settlement.delay_ms)
    assert longest >= 30_000
    assert case.settler.unstarted.put_back == 10
    assert len(caplog.records) == 1
    case.now_s += 61
    unknown(case, raw)
    assert len(caplog.records) == 2
    assert {type(event) for event in case.heard} == {events.JobPutBack}


def test_a_put_back_keeps_the_crashes(case: Case) -> None:
    raw = Envelope("not.here", [], {}, enqueued_ms=1).encode()
    for kept in (2, 4):
        job = case.job(raw)._replace(crashes=2)
        raw = case.settler.unstarted.unknown(job, "not.here", "not here", NOW_MS).envelope
        assert Envelope.decode(raw).headers.crashes() == (kept, 0)


def test_an_unknown_job_is_dead_in_the_end(case: Case) -> None:
    raw = unknown(case, Envelope("not.here", [], {}, enqueued_ms=1).encode()).envelope
    assert unknown(case, raw, NOW_MS + 60_000).kind is SettlementKind.RESCHEDULE
    settlement = unknown(case, raw, NOW_MS + 60_001)
    assert settlement.state is State.DEAD
    assert outcome(settlement).reason == "unknown"
    assert settlement.dead_letter is not None
    assert read_dead_letter(settlement.dead_letter)[1] == raw


@pytest.mark.parametrize(
    "headers", [None, [], "text", {"first_unknown_at": "x"}, {"unknown_times": -5}]
)
def test_a_newer_envelope_is_put_back_whatever_it_holds(case: Case, headers: Any) -> None:
    raw = {"v": 99, "f": {"new": "form"}, "h": headers, "more": [1]}
    kept = orjson.loads(unknown(case, orjson.dumps(raw)).envelope)
    assert (kept["v"], kept["f"], kept["more"]) == (99, {"new": "form"}, [1])
    assert kept["h"]["first_unknown_at"] == NOW_MS


def test_unreadable_bytes_are_kept(case: Case) -> None:
    raw = b"\x00\n\xff not ours"
    settlement = case.settler.unstarted.unreadable(case.job(raw), ValueError("bad start"))
    assert settlement.dead_letter is not None
    told, kept = read_dead_letter(settlement.dead_letter)
    assert (kept, told.reason) == (raw, "unreadable")
    assert "bad start" in told.message


def test_a_job_that_took_its_workers_down_is_dead(case: Case) -> None:
    settlement = case.settler.unstarted.crashed(case.attempt(crashes=3))
    assert settlement.state is State.DEAD
    told = outcome(settlement)
    assert told.reason == "crashed"
    assert "3" in told.message
    assert isinstance(case.heard[0], events.JobDead)
    assert case.heard[0].reason == "crashed"


def test_a_failed_attempt_leaves_its_error(case: Case) -> None:
    raw = case.attempt()
    again = later(case.settler.error(raw, ValueError("first")))
    attempt = case.attempt(attempt=again.attempt, headers=again.headers)
    attempt.stop(Reason.TIMEOUT)
    first, second = later(case.settler.error(attempt, asyncio.CancelledError())).headers.errors()
    assert (first.attempt, first.type, first.message) == (1, "ValueError", "first")
    assert (first.worker, first.traceback) == ("worker-1", "ValueError: first\n")
    assert first.at_ms > 1_700_000_000_000
    assert (second.attempt, second.type) == (2, "TimeoutError")


def test_a_snooze_and_a_release_leave_no_error(case: Case) -> None:
    assert later(case.settler.error(case.attempt(), Snooze(5))).headers is NO_HEADERS
    attempt = case.attempt()
    attempt.stop(Reason.SHUTDOWN)
    released = case.settler.error(attempt, asyncio.CancelledError())
    assert released is not None
    assert released.envelope == b""


def test_a_dead_letter_names_the_worker(case: Case) -> None:
    assert outcome(case.settler.error(case.attempt(attempt=3), ValueError())).worker == "worker-1"


class ByError(Case):
    """A job function whose policies go by the error."""

    def __init__(self, *, turned: bool = False) -> None:
        super().__init__()
        policies = [
            RetryPolicy(3, constant(1), on=(OSError, LookupError)),
            RetryPolicy(2, constant(2), on=RuntimeError),
        ]
        if turned:
            policies.reverse()
        app = AsyncJobs("memory:", retry=RetryPolicy(4, constant(3)))
        self.function = app.job(name="subject", retry=policies)(subject)


def test_policies_count_their_own_failures(caplog: pytest.LogCaptureFixture) -> None:
    """Also when the next deploy has the list the other way round."""
    errors = [
        KeyError("k"),
        RuntimeError("r"),
        ValueError("v"),
        OSError("o"),
        ValueError("v"),
        ValueError("v"),
    ]
    delays, envelope = [], Envelope("subject", [], {}, enqueued_ms=1)
    for number, error in enumerate(errors):
        case = ByError(turned=bool(number % 2))
        attempt = case.attempt(attempt=envelope.attempt, headers=envelope.headers)
        assert attempt.context.max_attempts == 1 + 2 + 1 + 3
        settlement = case.settler.error(attempt, error)
        envelope = later(settlement)
        assert settlement is not None
        delays.append(settlement.delay_ms)
    assert delays == [1000, 2000, 3000, 1000, 3000, 3000]
    assert envelope.attempt == 7
    assert envelope.headers.spent() == {"LookupError|OSError": 2, "RuntimeError": 1}
    said = [record.getMessage().split(": ")[1] for record in caplog.records]
    assert said == [
        "attempt 1 of 3 failed, again in 1.0 s",
        "attempt 2 failed, failure 1 of 2 of the policy on RuntimeError, again in 2.0 s",
        "attempt 3 failed, failure 1 of 4 of the default policy, again in 3.0 s",
        "attempt 4 failed, failure 2 of 3 of the policy on LookupError|OSError, again in 1.0 s",
        "attempt 5 failed, failure 2 of 4 of the default policy, again in 3.0 s",
        "attempt 6 failed, failure 3 of 4 of the default policy, again in 3.0 s",
    ]
    for last in (KeyError(), RuntimeError(), ValueError()):
        attempt = ByError().attempt(attempt=7, headers=envelope.headers)
        assert outcome(ByError().settler.error(attempt, last)).reason == "exhausted"


def test_a_time_out_is_charged_to_the_policy_on_time_outs() -> None:
    case = ByError()
    attempt = case.attempt()
    attempt.stop(Reason.TIMEOUT)
    envelope = later(case.settler.error(attempt, asyncio.CancelledError()))
    # A TimeoutError is an OSError.
    assert envelope.headers.spent() == {"LookupError|OSError": 1}


@pytest.mark.parametrize("spent", [7, ["x"], {"RuntimeError": "1"}, {"RuntimeError": -1}])
def test_stored_counts_that_make_no_sense_are_none(spent: Any) -> None:
    case = ByError()
    attempt = case.attempt(attempt=2, headers=Headers({"spent": spent}))
    envelope = later(case.settler.error(attempt, RuntimeError()))
    assert envelope.headers.spent() == {"RuntimeError": 1}


class Odd(type):
    """A class that raises when it is asked whether an error is its own."""

    def __instancecheck__(cls, instance: Any) -> bool:
        raise ZeroDivisionError("in the class")


class OddError(Exception, metaclass=Odd):
    """An error class of that kind."""


@pytest.mark.parametrize("discard_on", [(), (OddError,)])
def test_an_exception_class_that_raises_costs_neither_job_nor_slot(
    case: Case, discard_on: Any
) -> None:
    app = AsyncJobs("memory:")
    policy = RetryPolicy(3, constant(1), on=OddError)
    case.function = app.job(name="subject", retry=[policy, RetryPolicy(2)], discard_on=discard_on)(
        subject
    )
    assert later(case.settler.error(case.attempt(), ValueError())).attempt == 2
    assert outcome(case.settler.error(case.attempt(attempt=4), ValueError())).reason == "exhausted"


def test_a_backoff_that_raises_is_charged_all_the_same(case: Case) -> None:
    app = AsyncJobs("memory:")
    policy = RetryPolicy(2, lambda _: 1 / 0, on=KeyError)
    case.function = app.job(name="subject", retry=[policy, RetryPolicy(9)])(subject)
    envelope = later(case.settler.error(case.attempt(), KeyError()))
    assert envelope.headers.spent() == {"KeyError": 1}
    attempt = case.attempt(attempt=2, headers=envelope.headers)
    assert outcome(case.settler.error(attempt, KeyError())).reason == "exhausted"


def test_an_expired_job_is_discarded_with_its_last_error(
    case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "asyncjobs.worker")
    envelope = later(case.settler.error(case.attempt(expires_ms=NOW_MS), ValueError("late")))
    assert envelope.expires_ms == NOW_MS
    caplog.clear()
    attempt = case.attempt(attempt=2, expires_ms=NOW_MS, headers=envelope.headers)
    settlement = case.settler.unstarted.expired(attempt)
    told = outcome(settlement)
    assert (settlement.state, told.reason, told.attempt) == (State.DISCARDED, "expired", 2)
    assert (told.error_type, told.message) == ("ValueError", "late")
    assert isinstance(case.heard[-1], events.JobDiscarded)
    assert case.heard[-1].reason == "expired"
    (record,) = caplog.records
    assert record.levelno == logging.INFO
    assert outcome(case.settler.unstarted.expired(case.attempt())).error_type == ""


def test_a_large_job_with_errors_can_be_read_again(case: Case) -> None:
    attempt = case.attempt()
    large = Envelope("subject", ["x" * (1 << 20)], {}, enqueued_ms=1)
    for _ in range(7):
        made = Attempt(case.job(large.encode()), large, case.function, CREW, NOW_MS)
        large.attempt = 1
        large = later(case.settler.error(made, ValueError("\x00" * 100_000)))
    assert len(large.headers.errors()) == 5
    assert len(large.encode()) < (1 << 20) + 200_000
    assert attempt.envelope.headers is NO_HEADERS


GATED = Terms(gate=Gate(turn="acme"))
REFUSED = {
    "too many": Effects(tuple(NewJob("default", f"n{n}", 2, b"") for n in range(1_001))),
    "too large": Effects((NewJob("default", "a", 2, bytes(MOST_EFFECT_BYTES + 1)),)),
    "terms": Effects((NewJob("default", "a", 2, b"{}", terms=GATED),)),
    "barriers": Effects(barriers=(Barrier("default", "end", 1),)),
}


def cause(monkeypatch: pytest.MonkeyPatch, effects: Effects) -> None:
    """Let each success have these effects."""
    plain = Settlement.succeeded

    def causing(*args: Any) -> Settlement:
        return plain(*args).causing(effects)

    monkeypatch.setattr(Settlement, "succeeded", causing)


@pytest.mark.parametrize("value", ["kept", {1}, None])
# A success that keeps nothing and that nobody hears of is made on a way of its own.
@pytest.mark.parametrize(
    ("is_heard", "options"), [(True, {}), (True, {"result_ttl": 0}), (False, {})]
)
@pytest.mark.parametrize("what", REFUSED)
def test_effects_that_a_store_cannot_keep_fail_the_attempt(
    case: Case,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
    is_heard: bool,
    options: dict[str, Any],
    value: Any,
) -> None:
    cause(monkeypatch, REFUSED[what])
    if not is_heard:
        case.settler._events = Events()
    settlement = case.settler.value(case.attempt(options=options), value)
    (error,) = later(settlement).headers.errors()
    is_lacking = what in ("terms", "barriers")
    assert error.type == f"asyncjobs.errors.{'MissingCapability' if is_lacking else 'UsageError'}"
    assert ("default/a" if what == "terms" else "default/id-1") in error.message
    assert settlement is not None
    assert settlement.effects is None
    if is_heard:
        assert [type(event) for event in case.heard] == [events.JobRetryScheduled]
    last = case.settler.value(case.attempt(attempt=3, options=options), value)
    assert last is not None
    assert (last.state, last.effects) == (State.DEAD, None)


def test_effects_that_a_store_can_keep_go_with_the_success(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    effects = Effects((NewJob("default", "child", 2, b"{}"),))
    cause(monkeypatch, effects)
    monkeypatch.setattr("asyncjobs.worker.engine.settling.result_of", lambda *_: 1 / 0)
    for options in ({}, {"result_ttl": 0}):
        settlement = case.settler.value(case.attempt(options=options), "value")
        assert settlement is not None
        assert (settlement.state, settlement.effects) == (State.SUCCEEDED, effects)
    # That its result cannot be kept costs neither the success nor what it causes.
    kept = outcome(case.settler.value(case.attempt(), "value"))
    assert (kept.state, kept.unavailable) == (
        State.SUCCEEDED,
        "it could not be kept: ZeroDivisionError",
    )
