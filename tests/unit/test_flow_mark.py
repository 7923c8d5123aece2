"""What nodes of flows carry in their headers."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs.model.codec import BadRecord
from asyncjobs.model.flow_mark import (
    MOST_REFERRED,
    FlowMark,
    Leaf,
    Reference,
    Run,
    context_of,
    filled,
    flow_mark,
    job_id,
    leaves_of,
    mark_header,
    read_references,
    read_value,
    stored_references,
    stored_value,
)
from asyncjobs.model.headers import Headers
from asyncjobs.model.terms import Arrival, FlowNode

MARK = FlowMark(
    FlowNode("q", "f1", "page"),
    "3.1",
    "import",
    2,
    60_000,
    (Arrival("r", "f1:0", "run"), Arrival("q", "b")),
)


def test_a_mark_comes_back_as_it_was() -> None:
    headers = Headers(mark_header(MARK, {"tenant": "acme"}))
    assert flow_mark(headers) == MARK
    assert context_of(headers) == {"tenant": "acme"}
    assert flow_mark(Headers({})) is None
    assert context_of(Headers({"context": 1})) == {}


@pytest.mark.parametrize(
    "stored",
    [
        [],
        ["q", "f", "n", "1", "", -1, 9, []],
        ["q", "f", "n", "1", "", 0, 9, [["q", "b", "x"]]],
        ["", "f", "n", "1", "", 0, 9, []],
        ["q", "f", "n", "1", "", 0, 0, []],
        {"a": 1},
    ],
)
def test_what_is_no_mark_is_none(stored: Any) -> None:
    assert flow_mark(Headers({"flow": stored})) is None


def test_a_retry_has_an_id_of_its_own() -> None:
    assert job_id("f", "3", 0) == "f-3"
    assert job_id("f", "3", 2) == "f-3-r2"


def test_many_leaves_are_one_run() -> None:
    value: Any = [Leaf("q", str(n)) for n in range(10_000)]
    stored = stored_value(value)
    assert stored == [{"q": "q", "b": "", "f": 0, "c": 10_000}]
    assert list(leaves_of(read_value(stored))) == value


def test_runs_end_where_nodes_differ() -> None:
    value: Any = [
        Leaf("q", "1"),
        Leaf("q", "2"),
        Leaf("r", "3"),
        [],
        Leaf("r", "4.1"),
        Leaf("r", "4.2", 1),
        {"x": Leaf("q", "7", 0, (None,))},
    ]
    stored = stored_value(value)
    assert len(stored) == 6
    read = read_value(stored)
    assert list(leaves_of(read)) == list(leaves_of(value))
    assert filled(read, lambda leaf: leaf.key) == ["1", "2", "3", [], "4.1", "4.2", {"x": "7"}]


def test_references_come_back_as_they_were() -> None:
    references = [Reference((0,), Leaf("q", "1")), Reference(("found", 2, "deep"), [])]
    assert read_references(Headers(stored_references(references))) == references
    assert read_references(Headers({})) == []


@pytest.mark.parametrize(
    "stored",
    [
        {},
        [[[], {"q": "q", "k": "1"}]],
        [[[True], {"q": "q", "k": "1"}]],
        [[[0], {"q": "q"}]],
        [[[0], {"q": "q", "k": "1", "r": -1}]],
        [[[0], {"q": "q", "b": "", "f": 0, "c": MOST_REFERRED + 1}]],
        [[[0], {"q": "q", "b": "", "f": -1, "c": 2}]],
        [[[0], 7]],
    ],
)
def test_what_is_no_reference_is_refused(stored: Any) -> None:
    with pytest.raises(BadRecord):
        read_references(Headers({"refs": stored}))


def test_references_are_not_nested_without_end() -> None:
    stored: Any = {"q": "q", "k": "1"}
    for _ in range(60):
        stored = [stored]
    with pytest.raises(BadRecord, match="nested"):
        read_value(stored)


def test_a_run_is_a_piece_of_its_list() -> None:
    value = [Run("q", "2.", 0, 2), Leaf("q", "1")]
    assert filled(value, lambda leaf: leaf.key) == ["2.0", "2.1", "1"]
