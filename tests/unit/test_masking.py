"""Sensitive values are found however they are escaped, and looking for them is bounded."""

from __future__ import annotations

import html
import json
import random
import re
import string
from collections.abc import Callable
from typing import Any
from urllib.parse import quote, quote_plus, urlencode
from xml.sax.saxutils import escape, quoteattr

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.model.codec import MAX_TEXT
from asyncjobs.policy import escapes, masking
from asyncjobs.policy.escapes import TooManyEscapes, readings
from asyncjobs.policy.masking import LONGEST_VALUE, MASK, MOST_TEXT, MOST_VALUES
from asyncjobs.policy.redaction import Mask, Redaction
from asyncjobs.worker.engine.error_text import describe

HIDDEN = "too much of the job is sensitive"


def mask_for(value: Any) -> Mask:
    return Mask(Redaction(names=("p",)), [], {"p": value})


def each_character(secret: str) -> str:
    return "".join(f"%{byte:02x}" for byte in secret.encode())


def by_number(secret: str) -> str:
    return "".join(f"&#x{ord(each):X};" for each in secret)


WRITINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "repr": repr,
    "ascii": ascii,
    "bytes": lambda secret: repr(secret.encode()),
    "json": json.dumps,
    "json, unicode": lambda secret: json.dumps(secret, ensure_ascii=False),
    "json in a repr": lambda secret: repr(json.dumps(secret)),
    "json in json": lambda secret: json.dumps(json.dumps(secret)),
    "quote": quote,
    "quote, nothing safe": lambda secret: quote(secret, safe=""),
    "quote_plus": quote_plus,
    "urlencode": lambda secret: urlencode({"key": secret}),
    "quote in a query": lambda secret: quote(quote(secret, safe=""), safe=""),
    "each character": each_character,
    "httpx path": lambda secret: str(httpx.URL("https://x").copy_with(path=f"/{secret}/more")),
    "httpx query": lambda secret: str(httpx.URL("https://x", params={"key": secret})),
    "html": html.escape,
    "html twice": lambda secret: html.escape(html.escape(secret)),
    "html by number": by_number,
    "xml": escape,
    "xml attribute": quoteattr,
}


@pytest.mark.parametrize("way", WRITINGS)
def test_a_value_in_a_url_is_found_however_it_is_escaped(way: str) -> None:
    secret = 'Zürich$2026!key "a"/b&c+d<e>'
    text = f"error at {WRITINGS[way](secret)} again"
    shown = mask_for(secret).text(text)
    assert MASK in shown, shown
    assert "rich" not in shown
    assert shown.startswith("error at ")
    assert shown.endswith(" again")


SECRETS = st.text(
    st.characters(min_codepoint=33, exclude_categories=["Cs", "Cc", "Z"]), min_size=6, max_size=40
)


@given(SECRETS, st.sampled_from([way for way in WRITINGS if not way.startswith("httpx")]))
def test_no_secret_is_shown_in_any_writing(secret: str, way: str) -> None:
    written = WRITINGS[way](secret)
    shown = mask_for(secret).text(f"before {written} after")
    kept = shown.removeprefix("before ").removesuffix(" after")
    assert written not in shown
    assert MASK in shown
    # What is left beside the mask is what the writing itself has put around the value.
    assert re.fullmatch(r"""[b'"\\]*(key=)?\*\*\*['"\\]*""", kept), shown


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_each_reading_knows_where_its_characters_stand(text: str) -> None:
    for read, place in readings(text):
        places = [place(n) for n in range(len(read) + 1)]
        assert places == sorted(places)
        assert places[-1] == len(text)


def test_random_secrets_in_urls_of_httpx_are_found() -> None:
    """Of 106 secrets 83 were shown when only the forms of `urllib` were looked for."""
    draw = random.Random(2026)
    alphabet = string.ascii_letters + string.digits + "!$&'()*+,;=:@/~-._ äöüßéñ€"
    for _ in range(106):
        secret = "".join(draw.choice(alphabet) for _ in range(16)).strip() or "secret"
        url = httpx.URL("https://api.example.org/v1", params={"key": secret})
        assert MASK in mask_for(secret).text(f"Client error '404' for url '{url}'"), (secret, url)


# Bounds


@pytest.mark.parametrize("start", ["", "ü"])
def test_a_text_that_is_cut_shows_no_half_of_a_secret(start: str) -> None:
    draw = random.Random(1)
    secret = start + "".join(draw.choice(string.ascii_letters) for _ in range(200))
    for length in range(MAX_TEXT - 300, MAX_TEXT + 300, 7):
        for written in (secret, quote(secret), quote(quote(secret))):
            told = describe(ValueError(written + "." * length), mask_for(secret))
            assert told.message.endswith("." * min(length, MAX_TEXT))
            halves = [n for n in range(4, 200) if secret[-n:] in told.message + told.trace]
            assert halves == [], (length, written[:9])


@pytest.mark.parametrize(
    ("value", "text", "is_shown"),
    [
        ("x" * 900_000, "some text", True),
        ("x" * 900_000, "x" * 900_000, False),
        ("x" * (LONGEST_VALUE + 1), "y" * LONGEST_VALUE, True),
        ("x" * (LONGEST_VALUE + 1), "y" * (LONGEST_VALUE + 1), False),
        ([f"value {n}" for n in range(MOST_VALUES)], "some text", True),
        ([f"value {n}" for n in range(MOST_VALUES + 1)], "some text", False),
        ("line\nmore\n" * MOST_VALUES * 9, "some text", True),
        ("secret", "y" * MOST_TEXT, True),
        ("secret", "y" * (MOST_TEXT + 1), False),
        ("secret", "%41" * (escapes.MOST_ESCAPES + 1), False),
        ("secret", "secret " * (masking.MOST_FOUND + 1), False),
        ([f"{n:04}x" + "x" * n for n in range(900)], "0" * 9_000, True),
        (["0000x" + "x" * n for n in range(900)], "0" * 9_000, False),
    ],
    ids=lambda value: f"{type(value).__name__}-{len(value)}" if not isinstance(value, bool) else "",
)
def test_there_is_a_limit_beyond_which_no_text_is_shown(
    value: Any, text: str, is_shown: bool
) -> None:
    shown = mask_for(value).text(text)
    assert (shown == text) == is_shown
    assert (HIDDEN in shown) != is_shown


def test_only_the_end_of_a_long_text_is_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []

    def count(text: str) -> Any:
        looked.append(len(text))
        return readings(text)

    monkeypatch.setattr(masking, "readings", count)
    told = describe(ValueError("x" * 10_000_000 + " hunter2"), mask_for("hunter2"))
    assert told.message.endswith("x ***")
    assert max(looked) <= MAX_TEXT + len("hunter2") * escapes.LONGEST_ESCAPE


def test_escapes_are_undone_up_to_a_limit() -> None:
    with pytest.raises(TooManyEscapes):
        list(readings("%41" * (escapes.MOST_ESCAPES + 1)))
    assert len(list(readings("plain"))) == 1


def test_many_values_are_found_like_few() -> None:
    values = [f"{n:04}-secret" for n in range(400)]
    text = " ".join(quote(f"{value}/x") for value in values)
    assert mask_for(values).text(text) == " ".join(["***/x"] * 400)
