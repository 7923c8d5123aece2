from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncjobs.errors import ArgumentsError, RegistrationError
from asyncjobs.jobs.binding import Binding
from asyncjobs.jobs.context import INJECTED, JobContext


def plain(a: int, b: str = "x") -> None: ...
def nothing() -> None: ...
def positional(a: int, /, b: int = 1, *, c: int) -> None: ...
def keywords(*, a: int, b: int = 2) -> None: ...
def spread(a: int, *rest: int, c: int = 1, **more: int) -> None: ...
def both(a: int, /, **more: int) -> None: ...
def with_context(a: int, *, ctx: JobContext = INJECTED) -> None: ...


FUNCTIONS = [plain, nothing, positional, keywords, spread, both]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda function: function.__name__)
@given(
    args=st.lists(st.integers(0, 3), max_size=4),
    kwargs=st.dictionaries(st.sampled_from("abcz"), st.integers(0, 3), max_size=4),
)
def test_it_decides_as_python_does(
    function: Callable[..., None], args: list[int], kwargs: dict[str, int]
) -> None:
    try:
        function(*args, **kwargs)
    except TypeError:
        with pytest.raises(ArgumentsError, match=function.__name__):
            Binding(function.__name__, function).check(args, kwargs)
    else:
        Binding(function.__name__, function).check(args, kwargs)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "said"),
    [
        (plain, (), {}, "missing argument 'a'"),
        (plain, (1, 2, 3), {}, "takes at most 2 positional arguments, 3 were given"),
        (plain, (1,), {"a": 1}, "'a' was given twice"),
        (plain, (1,), {"z": 1}, "unexpected keyword argument 'z'"),
        (positional, (), {"a": 1, "c": 1}, "'a' can only be given by position"),
        (positional, (1,), {}, "missing argument 'c'"),
        (with_context, (1,), {"ctx": 1}, "'ctx' is filled in by the worker; leave it out"),
        (with_context, (1, 2), {}, "takes at most 1 positional"),
    ],
)
def test_the_error_says_what_is_wrong(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], said: str
) -> None:
    with pytest.raises(ArgumentsError) as caught:
        Binding("mail.send", function).check(args, kwargs)
    assert said in str(caught.value)
    assert str(caught.value).startswith("mail.send(")


def test_the_signature_in_texts_leaves_the_context_out() -> None:
    with pytest.raises(ArgumentsError) as caught:
        Binding("mail.send", with_context).check((), {"nobody": 1})
    assert "ctx" not in str(caught.value).partition(": ")[0]
    assert Binding("mail.send", with_context).injected == "ctx"
    assert Binding("mail.send", plain).injected is None


def test_arguments_are_named_in_paths() -> None:
    binding = Binding("mail.send", spread)
    assert binding.path(0) == "mail.send: argument 'a'"
    assert binding.path(2) == "mail.send: argument '*2'"
    assert binding.path("c") == "mail.send: argument 'c'"


def context_by_position(ctx: JobContext = INJECTED) -> None: ...
def context_without_default(*, ctx: JobContext) -> None: ...
def context_with_text_annotation(*, ctx: "JobContext") -> None: ...  # noqa: UP037
def two_contexts(*, one: JobContext = INJECTED, two: JobContext = INJECTED) -> None: ...


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (context_by_position, "must be keyword-only"),
        (context_without_default, "JobContext = INJECTED"),
        (context_with_text_annotation, "JobContext = INJECTED"),
        (two_contexts, "'one' and 'two' are both INJECTED"),
    ],
)
def test_a_context_that_nobody_could_fill_in_is_refused(function: Any, said: str) -> None:
    with pytest.raises(RegistrationError, match=said):
        Binding("mail.send", function)


def test_only_a_context_can_be_injected() -> None:
    def wants_int(*, ctx: Any = INJECTED) -> None: ...

    wants_int.__annotations__["ctx"] = int
    with pytest.raises(RegistrationError, match="only a JobContext"):
        Binding("mail.send", wants_int)


def test_a_context_needs_no_annotation() -> None:
    def untyped(*, ctx=INJECTED): ...  # type: ignore[no-untyped-def]

    assert Binding("mail.send", untyped).injected == "ctx"
