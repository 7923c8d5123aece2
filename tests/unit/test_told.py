"""Errors on their way out of the process of an attempt."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any, Self

import orjson
import pytest

from asyncjobs import Discard, MemoryLimit, ProcessDied, Retry, Snooze
from asyncjobs.jobs.suspend import Suspend, suspend_in
from asyncjobs.policy.retry import class_name
from asyncjobs.worker.engine.error_text import describe
from asyncjobs.worker.engine.processes.told import error_fields, error_of, without_frames


class Needy(Exception):
    """It cannot be made without its arguments."""

    def __new__(cls, one: int, *, two: int) -> Self:
        return super().__new__(cls)

    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(f"{one} and {two}")
        self.two = two
        self.thing = object()


class Deaf(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Closed(Exception):
    def __init_subclass__(cls) -> None:
        raise TypeError("no subclasses")


def there_and_back(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as raised:
        fields = error_fields(raised, None)
    return error_of(orjson.loads(orjson.dumps(fields)))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ValueError("a", 1), ValueError),
        (FileNotFoundError(2, "no such file"), FileNotFoundError),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UnicodeDecodeError),
        (KeyError("k"), LookupError),
        (SystemExit(3), SystemExit),
        (MemoryLimit("too much"), ProcessDied),
        (MemoryLimit("too much"), MemoryError),
        (Needy(1, two=2), Needy),
        (Deaf(), Deaf),
    ],
)
def test_an_error_keeps_its_class_and_its_text(
    error: BaseException, kind: type[BaseException]
) -> None:
    found = there_and_back(error)
    assert isinstance(found, kind)
    assert class_name(type(found)) == class_name(type(error))
    told, expected = describe(found), describe(error)
    assert (told.kind, told.message) == (expected.kind, expected.message)
    assert "in there_and_back" in told.trace


def test_plain_fields_come_along_and_others_do_not() -> None:
    found: Any = there_and_back(Needy(1, two=2))
    assert (found.two, found.thing) == (2, None)
    missing: Any = there_and_back(FileNotFoundError(2, "no such file"))
    assert missing.errno == 2


def test_signals_come_along() -> None:
    found: Any = there_and_back(Retry("again", delay=timedelta(seconds=3)))
    assert (isinstance(found, Retry), found.delay) == (True, 3.0)
    found = there_and_back(Snooze(5))
    assert (isinstance(found, Snooze), found.delay) == (True, 5)
    found = there_and_back(Discard("why"))
    assert (isinstance(found, Discard), found.reason) == (True, "why")
    pause = suspend_in(there_and_back(Suspend(7, "sleep")))
    assert pause is not None
    assert (pause.delay_s, pause.reason) == (7, "sleep")


def test_a_group_is_a_group_of_its_members() -> None:
    found = there_and_back(BaseExceptionGroup("two", [ValueError("one"), KeyboardInterrupt()]))
    assert isinstance(found, BaseExceptionGroup)
    assert [class_name(type(each)) for each in found.exceptions] == [
        "ValueError",
        "KeyboardInterrupt",
    ]


def test_an_unknown_class_counts_as_the_nearest_known_one() -> None:
    fields = error_fields(ValueError("x"), None)
    fields["kind"] = "somewhere.Else"
    fields["classes"].insert(0, ["somewhere", "Else"])
    found = error_of(fields)
    assert isinstance(found, ValueError)
    assert class_name(type(found)) == "somewhere.Else"
    fields["classes"] = [["somewhere", "Else"]]
    assert isinstance(error_of(fields), ProcessDied)
    assert not isinstance(there_and_back(Closed("x")), Closed)


def test_no_name_is_imported() -> None:
    name = "this"
    assert name not in sys.modules
    fields = error_fields(ValueError("x"), None) | {"classes": [[name, "s"]]}
    assert isinstance(error_of(fields), ProcessDied)
    assert name not in sys.modules


def test_an_error_of_the_worker_itself_shows_no_frames() -> None:
    try:
        raise without_frames(ProcessDied("its process has ended"))
    except ProcessDied as error:
        told = describe(error)
    assert told.trace == "asyncjobs.errors.ProcessDied: its process has ended\n"
