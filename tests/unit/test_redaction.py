"""The rule of what is sensitive: where it is declared, how it travels, what it hides."""

from __future__ import annotations

import inspect
from typing import Any, Optional

import orjson
import pytest

from asyncjobs import (
    INJECTED,
    ArgumentsError,
    AsyncJobs,
    ConfigError,
    EncodeError,
    JobContext,
    RegistrationError,
    Secret,
)
from asyncjobs.model.envelope import Envelope
from asyncjobs.model.headers import NO_HEADERS
from asyncjobs.policy.masking import MOST_VALUES
from asyncjobs.policy.redaction import Mask, Redaction, check_patterns, mask_of, mask_of_raw

S = Secret


def rule_of(function: Any, *sensitive: str, injected: str | None = None) -> Redaction:
    return Redaction.of("f", function, sensitive, injected or ())


def mask_for(value: Any, *names: str) -> Mask:
    return Mask(Redaction(names=names or ("p",)), [], {"p": value})


async def card(user: str, password: str, *rest: str, note: str = "x", **more: str) -> None: ...
async def strict(user: str, pin: Secret[str], *, ctx: JobContext = INJECTED) -> None: ...
async def nested(a: Secret[str] | None, b: list[Secret[int]], c: Optional[str]) -> None: ...  # noqa: UP045


def test_names_hide_by_position_and_by_keyword() -> None:
    rule = rule_of(card, "password", "rest")
    assert [rule.hides_position(n) for n in range(5)] == [False, True, True, True, True]
    assert rule.hides("Password")
    assert not rule.hides("user")


def test_annotations_count_also_as_text_and_inside_of_others() -> None:
    assert inspect.signature(nested).parameters["a"].annotation == "Secret[str] | None"
    assert rule_of(nested).names == ("a", "b")
    assert rule_of(strict, injected="ctx").names == ("pin",)
    direct = card.__class__(card.__code__, {})
    direct.__annotations__ = {"user": Secret[str], "password": dict[str, Secret[str]]}
    assert rule_of(direct).names == ("user", "password")


def test_annotations_with_names_that_only_type_checkers_import_count() -> None:
    async def pay(pin: S[OnlyForTypes], other: OnlyForTypes) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    assert rule_of(pay).names == ("pin",)


def test_a_name_that_no_parameter_has_is_refused() -> None:
    for wrong in ("pins", "wallet.number"):
        with pytest.raises(RegistrationError, match=f"sensitive='{wrong}' is not a parameter"):
            rule_of(strict, wrong, injected="ctx")
    assert rule_of(strict, "user.number", injected="ctx").names == ("number", "pin")
    # What `**more` may take can have any name.
    assert rule_of(card, "anything").hides("anything")


@pytest.mark.parametrize("wrong", ["password", [""], [7], ["x" * 257], ["x"] * 257, None])
def test_what_is_no_list_of_names_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigError, match="redact"):
        check_patterns(wrong)
    with pytest.raises(ConfigError, match="redact"):
        AsyncJobs("memory:", redact=wrong)
    if wrong is not None:
        with pytest.raises(ConfigError, match="sensitive"):
            AsyncJobs("memory:").job(sensitive=wrong)(card)


def test_patterns_of_the_app_hide_parameters_and_keys() -> None:
    rule = rule_of(card).with_patterns(("*WORD", "api_*"), card)
    assert rule.hides_position(1)
    assert not rule.hides_position(0)
    mask = Mask(rule, ["u", "p"], {"more": [{"Api_Key": "k", "open": "o"}]})
    assert mask.arguments() == (["u", "***"], {"more": [{"Api_Key": "***", "open": "o"}]})


def test_the_rule_travels_with_the_job() -> None:
    app = AsyncJobs("memory:", redact=["*token*"])
    function = app.job(name="f", sensitive=["password", "rest"])(card)
    job = function.new_job(("ada", "hunter2", "r"), {"note": "n"})
    headers = Envelope.decode(job.envelope).headers
    rule = Redaction.read(headers)
    assert rule == Redaction(frozenset({1}), ("password", "rest", "*token*"), 2)
    mask = mask_of_raw(job.envelope)
    assert mask is not None
    assert mask.arguments() == (["ada", "***", "***"], {"note": "n"})
    plain = AsyncJobs("memory:").job(name="f")(card).new_job(("ada", "p"), {})
    assert Envelope.decode(plain.envelope).headers is NO_HEADERS
    assert mask_of_raw(plain.envelope) is None


@pytest.mark.parametrize(
    "broken",
    [
        None,
        7,
        [],
        {},
        {"names": 1},
        {"names": [1]},
        {"names": [], "at": ["x"]},
        {"names": [], "from": "x"},
        {"names": ["x" * 257]},
    ],
)
def test_a_rule_that_cannot_be_read_hides_everything(broken: Any) -> None:
    raw = orjson.dumps({"a": ["one"], "k": {"x": "twofold"}, "h": {"sensitive": broken}})
    mask = mask_of_raw(raw)
    assert mask is not None
    assert mask.arguments() == (["***"], {"x": "***"})
    assert mask.text("twofold") == "***"


def test_a_broken_envelope_with_a_rule_is_not_shown() -> None:
    raw = orjson.dumps({"a": ["one"], "h": {"sensitive": {"names": []}}})
    with pytest.raises(ValueError, match="cannot be read"):
        mask_of_raw(raw[:-1])
    assert mask_of_raw(b"garbage") is None
    hidden = mask_of(Redaction(names=("a",)), b"garbage")
    assert hidden is not None


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("hunter2", "xhunter2y hunter2", "x***y ***"),
        ("a'b\"c\n", repr("error: a'b\"c\n!"), "'error: ***!'"),
        ("ü ß/x", "q=%C3%BC%20%C3%9F%2Fx&r=%C3%BC+%C3%9F%2Fx", "q=***&r=***"),
        ('ü&"x"', r'{"k": "\u00fc&\"x\""}', '{"k": "***"}'),
        ("line one\nline two", "  | line one\n  | line two", "  | ***\n  | ***"),
        ("h\u00fcnter", "{!r}".format("h\u00fcnter".encode()), "b'***'"),
        ("<b>&co", "said &lt;b&gt;&amp;co", "said ***"),
        ("737", "737 17371 x737 a-737", "*** 17371 x737 a-***"),
        ("7", "7 77", "7 77"),
        (4111111111111111, "card 4111111111111111!", "card ***!"),
        (True, "True", "True"),
        ("   ", "a   b", "a   b"),
        (["secret one", {"k": "secret two"}], "secret one, secret two", "***, ***"),
        ({"inner": "abcd", "longer": "abcdef"}, "abcdef abcd", "*** ***"),
    ],
)
def test_values_in_texts(value: Any, text: str, expected: str) -> None:
    assert mask_for(value).text(text) == expected


def test_a_value_is_hidden_where_another_argument_holds_it() -> None:
    mask = Mask(Redaction(names=("pw",)), ["redis://:hunter2@host", 7], {"pw": "hunter2"})
    assert mask.arguments() == (["redis://:***@host", 7], {"pw": "***"})


def test_too_many_values_hide_the_whole_text() -> None:
    mask = mask_for([f"value {n}" for n in range(MOST_VALUES + 1)])
    assert "else" not in mask.text("something else")


def test_errors_of_arguments_have_no_value() -> None:
    app = AsyncJobs("memory:", redact=["note"])

    async def known(user: str, pin: Any = "hunter2", note: str = "hunter3") -> None: ...

    known.__qualname__ = "known"
    function = app.job(name="f", sensitive=["pin"])(known)
    with pytest.raises(ArgumentsError, match="missing argument 'user'") as caught:
        function.new_job((), {})
    assert "hunter" not in str(caught.value)
    assert "pin: 'Any' = ..." in str(caught.value)
    with pytest.raises(EncodeError, match="argument 'pin', which is sensitive") as refused:
        function.new_job(("ada", {4111: "x"}), {})
    assert "4111" not in str(refused.value)
    assert refused.value.__suppress_context__
    with pytest.raises(EncodeError, match="has the key 4111"):
        function.new_job(({4111: "x"},), {})
