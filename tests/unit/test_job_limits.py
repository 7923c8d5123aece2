"""Limits as users write them: rules, keys, gates, and what is refused when."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest

from asyncjobs import (
    ArgumentsError,
    AsyncJobs,
    Concurrency,
    ConfigError,
    Fair,
    JobFunction,
    JobRegistry,
    MissingCapability,
    QueueBy,
    RateLimit,
    RegistrationError,
    Unique,
)
from asyncjobs.jobs.acting import ActionVerdict, Chosen, retry
from asyncjobs.jobs.tick import FromTick, job_of_tick, scheduled_call
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import AnyEnvelope, gate_in, unique_in
from asyncjobs.model.gates import read_gate, stored_gate
from asyncjobs.model.headers import TickMark
from asyncjobs.model.job import Priority, State
from asyncjobs.model.outcome import Outcome, dead_letter
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Gate, LimitKind, LimitRule, LimitUse
from asyncjobs.policy.gating import MAX_KEY, key_text
from asyncjobs.policy.rates import parse_rate, parse_rule, rule_text
from asyncjobs.store.changes import Changed, Target
from asyncjobs.store.letters import DeadLetter, LetterKey, Revival, Revived

pytestmark = pytest.mark.anyio

FIVE = LimitRule(LimitKind.CONCURRENCY, 5)


async def call(tenant: str, region: str = "eu", *, amount: int = 1) -> None: ...


async def pay(card: dict[str, str], tenant: str) -> None: ...


async def typed(tenant: UUID, amount: int = 1) -> None: ...


def job(limits: Any, function: Any = call, **options: Any) -> JobFunction[..., Any]:
    made: JobFunction[..., Any] = AsyncJobs("memory:").job(name="call", limits=limits, **options)(
        function
    )
    return made


def gate_of(limits: Any, *args: Any, function: Any = call, **kwargs: Any) -> Gate:
    """The gate of a job of this call."""
    terms = job(limits, function).template.new_job(args, kwargs).terms
    assert terms is not None
    assert terms.gate is not None
    return terms.gate


def key_of(by: Any, *args: Any, function: Any = call, **kwargs: Any) -> str:
    """The key of this call under a limit."""
    return gate_of(Concurrency(5, by=by), *args, function=function, **kwargs).uses[0].key


# ── rates ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("100/minute", (100, 60_000)),
        ("5/s", (5, 1_000)),
        ("10 per hour", (10, 3_600_000)),
        ("100 per 5 minutes", (100, 300_000)),
        ("7/2h", (7, 7_200_000)),
        (" 1/Day ", (1, 86_400_000)),
        ("1000/sec", (1_000, 1_000)),
    ],
)
def test_rates_that_are_read(text: str, wanted: tuple[int, int]) -> None:
    assert parse_rate(text) == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("often", "'often' is not a rate; write it as in '100/minute'"),
        ("", "'' is not a rate"),
        ("5", "'5' is not a rate"),
        ("5/", "'5/' is not a rate"),
        ("-5/s", "'-5/s' is not a rate"),
        ("5.5/s", "'5.5/s' is not a rate"),
        ("5/fortnight", "has the unit 'fortnight'; use s, minute, hour or day"),
        ("0/s", "the number in '0/s' must be a whole number from 1 to 1,000,000"),
        ("2000000/s", "must be a whole number from 1 to 1,000,000, not 2000000"),
        ("5/0 s", "the time in '5/0 s' must be from 1 s to 366 days"),
        ("5/400 days", "must be from 1 s to 366 days"),
        (5, "5 is not a rate"),
        (None, "None is not a rate"),
    ],
)
def test_rates_that_are_refused(text: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("5", FIVE),
        ("100/minute", LimitRule(LimitKind.RATE, 100, 60_000, 1)),
        ("100/minute:20", LimitRule(LimitKind.RATE, 100, 60_000, 20)),
        ("1000/s", LimitRule(LimitKind.RATE, 1_000, 1_000, 20)),
        ("1000/s:1", LimitRule(LimitKind.RATE, 1_000, 1_000, 1)),
        ("5/7h", LimitRule(LimitKind.RATE, 5, 25_200_000, 1)),
        ("5/90s", LimitRule(LimitKind.RATE, 5, 90_000, 1)),
    ],
)
def test_a_rule_and_its_text(text: str, rule: LimitRule) -> None:
    assert parse_rule(text) == rule
    assert rule_text(rule) == text


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", "must be a whole number from 1"),
        ("100/minute:", "no number behind the colon"),
        ("100/minute:x", "no number behind the colon"),
        ("100/minute:101", "burst=101 must be a whole number from 1 to the 100"),
        ("100/minute:0", "burst=0 must be"),
        ("five", "'five' is not a rate"),
    ],
)
def test_rules_that_are_refused(text: str, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        parse_rule(text)


def test_the_text_of_a_strange_rule() -> None:
    """Only a foreign writer has stored it, and it must be seen all the same."""
    assert rule_text(LimitRule(LimitKind.RATE, 5, 1_500, 3)) == "5/1.5s:3"
    assert rule_text(LimitRule(LimitKind.RATE, 5, 0, 1)) == "5/0s"


# ── what is refused when the limit is written ────────────────────────────────────────


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: Concurrency(0), "number must be a whole number from 1"),
        (lambda: Concurrency(True), "number must be a whole number"),
        (lambda: Concurrency("5"), "number must be a whole number"),  # type: ignore[arg-type]
        (lambda: Concurrency(5, strategy="wait"), "must be one of queue, cancel_running"),  # type: ignore[arg-type]
        (lambda: Concurrency(5, name="a b"), "is not the name of a limit"),
        (lambda: Concurrency(5, name=""), "is not the name of a limit"),
        (lambda: Concurrency(5, by=5), "names of arguments or a function of the call"),  # type: ignore[arg-type]
        (lambda: Concurrency(5, by=[]), "names of arguments or a function of the call"),
        (lambda: Concurrency(call), "takes a plain function, not an async one"),  # type: ignore[arg-type]
        (lambda: Concurrency(5, by=call), "takes a plain function, not an async one"),
        (lambda: RateLimit("5/s", burst=6), "burst=6 must be a whole number from 1 to the 5"),
        (lambda: RateLimit("5/s", weight=0), "weight must be a whole number"),
        (lambda: RateLimit("100/s", weight=101), r"for the rate is 100"),
        (lambda: RateLimit("5/s", weight=call), "takes a plain function"),  # type: ignore[arg-type]
        (lambda: RateLimit(lambda tenant: "5/s", burst=0), "burst must be"),
        (lambda: Fair(by=None), "needs what makes the turns"),  # type: ignore[arg-type]
        (lambda: Fair(by="tenant", weight=0), "weight must be a whole number from 1 to 1,000"),
    ],
)
def test_a_limit_that_cannot_work(make: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        make()


@pytest.mark.parametrize(
    ("limits", "wanted"),
    [
        (5, "limits must be a Concurrency, RateLimit or Fair, or a list"),
        ("100/minute", "limits must be a Concurrency, RateLimit or Fair, or a list"),
        ([Concurrency(5), 5], "limits must be a Concurrency"),
        ([Fair(by="tenant"), Fair(by="region")], "a job has one turn"),
        ([Concurrency(5)] * 9, "has 9 limits; use at most 8"),
        (
            [Concurrency(5, strategy="cancel_new"), Concurrency(9, by="tenant")],
            "the strategies cancel_new and queue",
        ),
        ([Concurrency(5), Concurrency(6)], "two limits called 'call:concurrency'"),
        ([Concurrency(5, name="a"), RateLimit("5/s", name="a")], "two limits called 'a'"),
        (Concurrency(5, by="tenent"), "Concurrency by 'tenent', and it has no such argument"),
        (RateLimit("5/s", by=("tenant", "x")), "RateLimit by 'x'"),
        (Fair(by="x"), "Fair by 'x', and it has no such argument; it has amount, region, tenant"),
    ],
)
def test_limits_that_a_function_cannot_have(limits: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        job(limits)


def test_a_store_without_gates_is_refused() -> None:
    assert job(Concurrency(5)).needs == {"limits": "gates"}
    assert job([]).needs == {}
    assert job([]).template.new_job(("acme",), {}).terms is None


# ── gates ────────────────────────────────────────────────────────────────────────────


def test_the_gate_of_a_job() -> None:
    limits = [
        Concurrency(5, by="tenant", strategy="cancel_running"),
        RateLimit("100/minute", burst=20, by=("tenant", "region"), weight=2),
        Concurrency(50, name="partner", strategy="cancel_running"),
        Fair(by="region", weight=3),
    ]
    uses = (
        LimitUse("call:concurrency:tenant", "acme", FIVE),
        LimitUse(
            "call:rate:tenant+region",
            "acme,eu",
            LimitRule(LimitKind.RATE, 100, 60_000, 20),
            tokens=2,
        ),
        LimitUse("partner", "", LimitRule(LimitKind.CONCURRENCY, 50)),
    )
    assert gate_of(limits, "acme") == Gate(uses, "eu", 3, "cancel_running")
    assert gate_of(limits, tenant="acme", region="eu") == gate_of(limits, "acme")


def test_turns_without_a_limit() -> None:
    assert gate_of(Fair(by="tenant"), "acme") == Gate((), "acme")


def test_functions_of_the_call() -> None:
    limits = [
        Concurrency(lambda tenant, **_: len(tenant), by=lambda tenant, **_: tenant.upper()),
        RateLimit(lambda tenant, **_: "9/s", burst=9, weight=lambda tenant, amount: amount),
        Fair(by=lambda tenant, **_: (tenant, 1), weight=lambda tenant, **_: 7),
    ]
    assert gate_of(limits, "acme", amount=4) == Gate(
        (
            LimitUse("call:concurrency:by", "ACME", LimitRule(LimitKind.CONCURRENCY, 4), True),
            LimitUse("call:rate", "", LimitRule(LimitKind.RATE, 9, 1_000, 9), True, 4),
        ),
        "acme,1",
        7,
    )


@pytest.mark.parametrize(
    ("limit", "wanted"),
    [
        (Concurrency(lambda *_, **__: 0), "its limit call:concurrency must be a whole number"),
        (Concurrency(lambda *_, **__: "5"), "must be a whole number"),  # type: ignore[arg-type,return-value]
        (RateLimit(lambda *_, **__: "often"), "call: its limit call:rate: 'often' is not a rate"),
        (RateLimit(lambda *_, **__: 5), "5 is not a rate; return '100/minute'"),  # type: ignore[arg-type,return-value]
        (RateLimit("9/s", weight=lambda *_, **__: 0), "the weight of its limit call:rate"),
        (Fair(by="tenant", weight=lambda *_, **__: 1_001), "the weight of its Fair"),
    ],
)
def test_a_function_of_the_call_that_returns_nonsense(limit: Any, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        gate_of(limit, "acme")


def test_a_job_that_could_never_start_is_refused() -> None:
    limit = RateLimit("100/minute", burst=20, weight=lambda tenant, amount: amount)
    assert gate_of(limit, "acme", amount=100).uses[0].tokens == 100
    with pytest.raises(ConfigError, match=r"counts for 101 starts .* would wait for ever"):
        gate_of(limit, "acme", amount=101)


# ── keys ─────────────────────────────────────────────────────────────────────────────


class Region(StrEnum):
    EU = "eu"


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["acme"], "acme"),
        ([5], "5"),
        ([True], "true"),
        ([None], "null"),
        ([1.5], "1.5"),
        ([Region.EU], "eu"),
        ([UUID(int=7)], "00000000-0000-0000-0000-000000000007"),
        (["acme", "eu"], "acme,eu"),
        (["a,b"], "a,b"),
        ([{"b": 1, "a": 2}], '{"a":2,"b":1}'),
        ([""], ""),
    ],
)
def test_keys_that_people_read(parts: list[Any], text: str) -> None:
    assert key_text(parts) == text


@pytest.mark.parametrize(
    "parts",
    [
        ["x" * (MAX_KEY + 1)],
        ["a\nb"],
        ["a\x00b"],
        [" acme"],
        ["#acme"],
        ["a,b", "c"],
        ["\ud800"],
    ],
)
def test_keys_that_are_hashed(parts: list[str]) -> None:
    text = key_text(parts)
    assert text.startswith("#")
    assert len(text) == 33
    assert text == key_text(parts)


def test_keys_of_several_arguments_do_not_meet() -> None:
    assert key_text(["a,b", "c"]) != key_text(["a", "b,c"])


def test_a_key_that_json_does_not_have() -> None:
    with pytest.raises(ArgumentsError, match="call: the key of its limit cannot be written"):
        key_of(lambda *_, **__: object(), "acme")


def test_the_key_of_typed_arguments() -> None:
    tenant = UUID(int=7)
    assert key_of("tenant", tenant, function=typed) == str(tenant)
    assert key_of(lambda tenant, **_: tenant.int, tenant, function=typed) == "7"


def test_what_is_sensitive_is_hashed() -> None:
    card = {"number": "4000 1234", "kind": "visa"}

    def key(by: Any, sensitive: list[str]) -> str:
        function = job(Concurrency(5, by=by), pay, sensitive=sensitive)
        terms = function.template.new_job((card, "acme"), {}).terms
        assert terms is not None
        assert terms.gate is not None
        return terms.gate.uses[0].key

    assert key("tenant", ["card"]) == "acme"
    assert key("tenant", ["tenant"]).startswith("#")
    assert key("card", ["card"]).startswith("#")
    assert key("card", ["card.number"]).startswith("#")
    assert key(lambda card, tenant: card["number"], ["card.number"]).startswith("#")
    assert key(lambda card, tenant: card["kind"], ["card.number"]) == "visa"
    assert "4000" in key("card", [])


# ── what is stored ───────────────────────────────────────────────────────────────────


def test_a_dead_letter_knows_its_gate() -> None:
    function = job([Concurrency(5, by="tenant"), RateLimit("5/s")], unique=Unique(by="tenant"))
    new = function.template.new_job(("acme",), {}, {"traceparent": "x"})
    assert new.terms is not None
    assert new.terms.unique is not None
    assert gate_in(new.envelope) == new.terms.gate
    assert unique_in(new.envelope) == new.terms.unique._replace(replace=False)
    assert AnyEnvelope.decode(new.envelope).headers.trace == {"traceparent": "x"}


@pytest.mark.parametrize(
    "gate",
    [
        Gate(),
        Gate(turn="acme", share=3),
        Gate((LimitUse("a", "", FIVE),), when_full="cancel_new"),
        Gate((LimitUse("a", "k", LimitRule(LimitKind.RATE, 5, 1_000, 2), True, 2),)),
    ],
)
def test_a_stored_gate_is_read_again(gate: Gate) -> None:
    assert read_gate(stored_gate(gate)) == gate


@pytest.mark.parametrize(
    "stored",
    [
        "gate",
        [],
        [[], "", 0, "wait"],
        [[], "", True, "wait"],
        [[], "", 1, "never"],
        [[], "x" * 2_000, 1, "wait"],
        [[["a"]], "", 1, "wait"],
        [[["", "", "c", 5, 0, 1, False, 1]], "", 1, "wait"],
        [[["a", "", "x", 5, 0, 1, False, 1]], "", 1, "wait"],
        [[["a", "", "c", 0, 0, 1, False, 1]], "", 1, "wait"],
        [[["a", "", "c", 5, -1, 1, False, 1]], "", 1, "wait"],
        [[["a", "", "r", 5, 0, 1, False, 1]], "", 1, "wait"],
        [[["a", "", "c", 5, 0, 1, 0, 1]], "", 1, "wait"],
        [[["a", "", "c", 5, 0, 1, False, 2**40]], "", 1, "wait"],
        [[["a", "", "c", 5, 0, 1, False, 1]] * 100, "", 1, "wait"],
    ],
)
def test_a_gate_that_nobody_of_ours_has_stored(stored: Any) -> None:
    with pytest.raises(BadRecord):
        read_gate(stored)


def test_an_argument_that_looks_like_a_gate_is_none() -> None:
    function = AsyncJobs("memory:").job(name="call")(pay)
    assert gate_in(function.new_job(({"gate": "1"}, "acme"), {}).envelope) is None


# ── schedules ────────────────────────────────────────────────────────────────────────


def test_the_job_of_a_tick_has_the_gate_of_an_enqueue() -> None:
    function = job([Concurrency(5, by="tenant"), Fair(by=lambda tenant, region: region)])
    stored = scheduled_call(function, ("acme", "eu"), {})
    made = job_of_tick(stored, "cron:x:1", TickMark("x", 1_000, "UTC"), 1_000)
    as_enqueued = function.template.new_job(("acme", "eu"), {})
    assert made.terms == as_enqueued.terms
    assert gate_in(made.envelope) == gate_in(as_enqueued.envelope)


def test_a_key_that_each_tick_changes_is_refused() -> None:
    by_tenant = job(Concurrency(5, by="tenant"))
    assert scheduled_call(by_tenant, ("acme", FromTick.DATE), {}).queue == "default"
    with pytest.raises(ConfigError, match="its limits depend on an argument that each tick fills"):
        scheduled_call(job(Concurrency(5, by="region")), ("acme", FromTick.DATE), {})


# ── limits that several functions name ───────────────────────────────────────────────


def shared(
    one: Any, other: Any, queue: Any = "default", other_queue: Any = "default"
) -> JobRegistry:
    registry = JobRegistry()
    registry.job(name="one", limits=one, queue=queue)(call)
    registry.job(name="other", limits=other, queue=other_queue)(pay)
    return registry


def test_functions_may_share_a_limit() -> None:
    partner = Concurrency(5, name="partner", by="tenant")
    assert len(shared(partner, [partner, RateLimit("5/s")]).functions()) == 2
    own = Concurrency(lambda *_, **__: 5, name="partner")
    assert len(shared(partner, own).functions()) == 2
    # Each queue counts by itself there, and the page on limits says so.
    routed = QueueBy(lambda *_, **__: "a", among=["a", "b"])
    assert len(shared(partner, partner, queue=routed).functions()) == 2


@pytest.mark.parametrize(
    ("one", "other", "queues", "wanted"),
    [
        (
            Concurrency(5, name="x"),
            RateLimit("5/s", name="x"),
            ("default", "default"),
            "other and one share the limit 'x', and one is a RateLimit, the other a Concurrency",
        ),
        (
            Concurrency(5, name="x"),
            Concurrency(6, name="x"),
            ("default", "default"),
            "with the rules 6 and 5; make the limit once",
        ),
        (
            Concurrency(5, name="x"),
            Concurrency(5, name="x"),
            ("default", "mail"),
            "the queues 'mail' and 'default'; a limit counts in one queue",
        ),
    ],
)
def test_functions_that_cannot_share_a_limit(
    one: Any, other: Any, queues: tuple[str, str], wanted: str
) -> None:
    with pytest.raises(ConfigError, match=wanted):
        shared(one, other, *queues)
    # The same when they come from two registries.
    app = AsyncJobs("memory:")
    first, second = JobRegistry(), JobRegistry()
    first.job(name="one", limits=one, queue=queues[0])(call)
    second.job(name="other", limits=other, queue=queues[1])(pay)
    app.include(first)
    with pytest.raises(ConfigError, match=wanted):
        app.include(second)
    assert [function.name for function in app.registry.functions()] == ["one"]


def test_a_function_that_is_defined_again_does_not_share_with_itself() -> None:
    registry = JobRegistry()

    def define(number: int) -> None:
        # As a reload does it: another function object, of the same place.
        code: dict[str, Any] = {"__name__": "reloaded"}
        exec(compile("async def again(): ...", "again.py", "exec"), code)
        registry.job(limits=Concurrency(number, name="x"))(code["again"])

    define(5)
    define(6)
    (function,) = registry.functions()
    assert function.gating is not None
    assert function.gating.limits["x"] == Concurrency(6, name="x")


def test_errors_of_registration_are_of_their_class() -> None:
    with pytest.raises(RegistrationError):
        job(Concurrency(5, by="tenent"))
    assert issubclass(MissingCapability, ConfigError)


# ── dead letters ─────────────────────────────────────────────────────────────────────


class Letters:
    """A store with one dead letter, which keeps what it is asked to revive."""

    def __init__(self, envelope: bytes) -> None:
        self.key = LetterKey(JobRef("default", "1"), 5)
        self.letter = dead_letter(Outcome(State.DEAD).encode(), envelope)
        self.revivals: list[Revival] = []
        self.dead = self.inspect = self.jobs = self

    async def run_now(self, targets: Sequence[Target]) -> list[Changed]:
        return []

    async def find(
        self, refs: Sequence[JobRef], *, cut: int | None = None
    ) -> list[DeadLetter | None]:
        size = len(self.letter)
        return [DeadLetter(self.key, Priority.NORMAL, self.letter, size) for _ in refs]

    async def revive(self, revivals: Sequence[Revival]) -> list[Revived]:
        self.revivals += revivals
        return [Revived.READY for _ in revivals]


async def revived_by(envelope: bytes) -> tuple[list[ActionVerdict], list[Revival]]:
    store: Any = Letters(envelope)
    verdicts = await retry(store, [Chosen(Target(JobRef("default", "1")), State.DEAD)])
    return verdicts, store.revivals


async def test_a_dead_job_that_runs_again_passes_its_limits_again() -> None:
    new = job([Concurrency(5, by="tenant")]).template.new_job(("acme",), {})
    assert new.terms is not None
    verdicts, (revival,) = await revived_by(new.envelope)
    assert verdicts == [ActionVerdict.DONE]
    assert revival.gate == new.terms.gate


async def test_a_dead_job_with_limits_that_cannot_be_read_stays_dead() -> None:
    new = job([Concurrency(5, by="tenant")]).template.new_job(("acme",), {})
    broken = new.envelope.replace(b'"wait"', b'"when"')
    assert await revived_by(broken) == ([ActionVerdict.UNREADABLE], [])
