"""Flows as they are drawn: edges, names, results in arguments, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from asyncjobs import AsyncJobs
from asyncjobs.errors import EncodeError, UsageError
from asyncjobs.jobs.drawing import MOST_NODES_OF_FLOW, Drawing, Slot
from asyncjobs.jobs.node import PREVIOUS
from asyncjobs.jobs.workflow import Flow, chain, chord, group
from asyncjobs.policy.graph import find_cycle, fronts_of

app = AsyncJobs("memory://")


@app.job
async def one(n: int = 1) -> int:
    return n


@app.job
async def two(a: Any, b: Any = None) -> int:
    return 2


@app.job
async def merge(found: list[int]) -> int:
    return sum(found)


def edges(drawing: Drawing) -> dict[str, list[str]]:
    return {
        node.name: [drawing.nodes[parent].name for parent, _ in node.edges]
        for node in drawing.nodes
    }


def references(drawing: Drawing, name: str) -> list[Any]:
    return next(node.references for node in drawing.nodes if node.name == name)


def _wrong(call: Any, *args: Any, **options: Any) -> Any:
    """A call that type checkers refuse."""
    return call(*args, **options)


def test_a_chain_passes_each_result_on() -> None:
    drawing = Drawing.of(chain(one.bind(1), one, two.bind(PREVIOUS, 5), two.bind(7)))
    assert edges(drawing) == {"one": [], "one-2": ["one"], "two": ["one-2"], "two-2": ["two"]}
    assert references(drawing, "one-2") == [((0,), Slot(0))]
    assert references(drawing, "two") == [((0,), Slot(1))]
    assert references(drawing, "two-2") == []
    assert drawing.outlet == (Slot(3), (3,))


def test_a_group_has_the_list_of_its_results() -> None:
    drawing = Drawing.of(group(one.bind(n) for n in range(3)))
    assert edges(drawing) == {"one": [], "one-2": [], "one-3": []}
    assert drawing.outlet == ([Slot(0), Slot(1), Slot(2)], (0, 1, 2))


def test_a_chord_gives_the_list_to_its_callback() -> None:
    drawing = Drawing.of(chord([one.bind(1), one.bind(2)], merge))
    assert edges(drawing)["merge"] == ["one", "one-2"]
    assert references(drawing, "merge") == [((0,), [Slot(0), Slot(1)])]


def test_the_chord_of_nothing_starts_with_an_empty_list() -> None:
    drawing = Drawing.of(chord([], merge))
    assert edges(drawing) == {"merge": []}
    assert references(drawing, "merge") == [((0,), [])]


def test_an_empty_group_within_a_chain_holds_nobody_up() -> None:
    drawing = Drawing.of(chain(one.bind(), group(), two.bind(1)))
    assert edges(drawing)["two"] == ["one"]


def test_workflows_are_items_of_workflows() -> None:
    inner = chain(one.bind(1), two.bind(PREVIOUS))
    drawing = Drawing.of(chain(group(inner, one.bind(3)), merge))
    assert edges(drawing) == {
        "one": [],
        "two": ["one"],
        "one-2": [],
        "merge": ["two", "one-2"],
    }
    assert references(drawing, "merge") == [((0,), [Slot(1), Slot(2)])]


def test_a_chain_may_begin_with_what_comes_before_it() -> None:
    drawing = Drawing.of(chain(one.bind(1), _wrong(chain, one, two)))
    assert edges(drawing)["one-2"] == ["one"]


def test_a_result_in_an_argument_is_an_edge() -> None:
    flow = Flow()
    x = flow.add(one.bind(1), name="x")
    flow.add(two.bind(x.result, [x.result, {"deep": x.result}]), name="y")
    drawing = Drawing.of(flow)
    assert edges(drawing) == {"x": [], "y": ["x"]}
    assert references(drawing, "y") == [
        ((0,), Slot(0)),
        ((1, 0), Slot(0)),
        ((1, 1, "deep"), Slot(0)),
    ]
    node = drawing.nodes[1]
    assert node.args == (None, [None, {"deep": None}])


def test_each_edge_says_what_a_failure_does() -> None:
    flow = Flow()
    x = flow.add(one.bind(1), name="x")
    y = flow.add(one.bind(2), name="y")
    flow.add(two.bind(1), after={x: "run", "y": "skip"}, name="z")
    flow.add(two.bind(1), after=[x, y], name="w", on_failure="run")
    drawing = Drawing.of(flow)
    assert drawing.nodes[2].edges == ((0, "run"), (1, "skip"))
    assert drawing.nodes[3].edges == ((0, "run"), (1, "run"))


def test_a_flow_is_an_item_of_a_flow() -> None:
    inner = Flow()
    inner.add(one.bind(1), name="a")
    inner.add(one.bind(2), name="b")
    outer = Flow()
    first = outer.add(one.bind(), name="first")
    part = outer.add(inner, name="part", after=[first])
    outer.add(two.bind(part.result), name="last")
    drawing = Drawing.of(outer)
    assert edges(drawing) == {
        "first": [],
        "part.a": ["first"],
        "part.b": ["first"],
        "last": ["part.a", "part.b"],
    }
    assert references(drawing, "last") == [((0,), {1: Slot(1), 2: Slot(2)})]


def test_names_may_be_used_before_they_are_added() -> None:
    flow = Flow()
    flow.add(one.bind(1), after="b", name="a")
    flow.add(one.bind(2), name="b")
    assert edges(Drawing.of(flow)) == {"b": [], "a": ["b"]}


def test_the_result_of_a_flow_is_that_of_its_last_node() -> None:
    flow = Flow()
    x = flow.add(one.bind(1))
    flow.add(two.bind(x.result))
    assert Drawing.of(flow).outlet == (Slot(1), (1,))
    flow.add(one.bind(3))
    assert Drawing.of(flow).outlet == ({1: Slot(1), 2: Slot(2)}, (1, 2))


def test_what_may_be_missing_needs_a_default() -> None:
    flow = Flow()
    x = flow.add(one.bind(1), name="x")
    flow.add(two.bind(x.result), name="y", after={x: "run"})
    with pytest.raises(UsageError, match=r"'y' runs even if 'x' has no result.*result_or"):
        Drawing.of(flow)
    again = Flow()
    x = again.add(one.bind(1), name="x")
    again.add(two.bind(x.result_or(0)), name="y", after={x: "run"})
    assert references(Drawing.of(again), "y") == [((0,), Slot(0, (0,)))]
    drawing = Drawing.of(chord([one.bind(1)], merge, on_failure="run"))
    assert references(drawing, "merge") == [((0,), [Slot(0, (None,))])]


def test_a_circle_is_refused_by_its_names() -> None:
    flow = Flow()
    flow.add(one.bind(1), name="a", after="c")
    flow.add(one.bind(1), name="b", after="a")
    flow.add(one.bind(1), name="c", after="b")
    with pytest.raises(UsageError, match=r"wait for each other: .* after .*"):
        Drawing.of(flow)


def test_wrong_flows_are_refused_with_names() -> None:
    flow = Flow()
    x = flow.add(one.bind(1), name="x")
    with pytest.raises(UsageError, match="has a node 'x' already"):
        flow.add(one.bind(2), name="x")
    other = Flow()
    with pytest.raises(UsageError, match="'y' cannot wait for 'x', which belongs to another flow"):
        other.add(one.bind(1), after=[x], name="y")
    other.add(two.bind(x.result), name="y")
    with pytest.raises(UsageError, match="'y' needs the result of 'x', which is no node"):
        Drawing.of(other)
    missing = Flow()
    missing.add(one.bind(1), after=["nobody"], name="z")
    with pytest.raises(UsageError, match=r"'z' waits for 'nobody'.*no node of this name"):
        Drawing.of(missing)
    with pytest.raises(UsageError, match="at least one item"):
        _wrong(chain)
    with pytest.raises(UsageError, match="the flow has no node"):
        Drawing.of(Flow())
    with pytest.raises(UsageError, match="nothing does"):
        Drawing.of(_wrong(chain, one))
    with pytest.raises(UsageError, match=r"write one\.bind"):
        _wrong(group, one)
    with pytest.raises(UsageError, match="'cancel', 'run' or 'skip', not 'stop'"):
        _wrong(flow.add, one.bind(1), on_failure="stop")


def test_a_flow_within_itself_is_refused() -> None:
    flow = Flow()
    flow.add(flow, name="me")
    with pytest.raises(UsageError, match="a workflow contains itself"):
        Drawing.of(flow)


def test_workflows_are_not_nested_without_end() -> None:
    deep: Any = one.bind(1)
    for _ in range(60):
        deep = group(deep)
    with pytest.raises(UsageError, match="nested over 50 deep"):
        Drawing.of(deep)


def test_beside_a_result_there_is_plain_data_only() -> None:
    flow = Flow()
    x = flow.add(one.bind(1))
    flow.add(two.bind([x.result, {1, 2}]))
    with pytest.raises(EncodeError, match="argument 0"):
        Drawing.of(flow)


def test_a_flow_has_a_bounded_number_of_nodes() -> None:
    many = group(one.bind(n) for n in range(MOST_NODES_OF_FLOW + 1))
    with pytest.raises(UsageError, match="may have 100,000 nodes"):
        Drawing.of(many)


def test_many_nodes_with_the_same_parents_have_one_barrier() -> None:
    drawing = Drawing.of(
        chain(group(one.bind(n) for n in range(50)), group(one.bind(n) for n in range(60)), merge)
    )
    graph = fronts_of(["q"] * 111, [node.edges for node in drawing.nodes])
    assert [(len(front.edges), len(front.nodes)) for front in graph.fronts] == [(50, 60), (60, 1)]
    assert graph.onward[0] == [(0, "cancel")]
    assert graph.ends() == [110]


def test_parents_in_two_queues_are_two_barriers() -> None:
    edges: Any = ((0, "cancel"),)
    graph = fronts_of(["a", "a", "b"], [(), edges, edges])
    assert [front.queue for front in graph.fronts] == ["a", "b"]
    assert graph.behind == [None, 0, 1]


def test_a_long_chain_has_no_circle() -> None:
    assert find_cycle({n: [n - 1] for n in range(1, 5_000)}) == []
    assert find_cycle({1: [2], 2: [3], 3: [1]}) == [1, 2, 3]
