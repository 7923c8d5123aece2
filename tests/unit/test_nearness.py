from __future__ import annotations

import pytest

from asyncjobs.guard.nearness import nearest_function

KNOWN = ["shop.tasks.send", "mail.send", "shop.tasks.pay", "tasks.nap"]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("tasks.send", "shop.tasks.send"),
        ("shop.tasks.nap", "tasks.nap"),
        ("pay", "shop.tasks.pay"),
        ("other.pay", "shop.tasks.pay"),
        ("shop.tasks.sned", "shop.tasks.send"),
        ("app.mail.send", "mail.send"),
        ("nothing.like.it", None),
        ("", None),
        ("x" * 100_000, None),
    ],
)
def test_the_name_that_was_probably_meant(name: str, near: str | None) -> None:
    assert nearest_function(name, KNOWN) == near
