"""Flows as boxes in layers: what is shown together, and that texts are texts."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from asyncjobs.cli.flows.boxes import boxes_of, svg_of
from asyncjobs.jobs.flow_info import NodeInfo
from asyncjobs.model.job import State
from asyncjobs.model.refs import JobRef


def node(name: str, *after: str, state: State = State.SUCCEEDED, by: str | None = None) -> NodeInfo:
    function = name.partition("-")[0]
    waits = dict.fromkeys(after, "cancel")
    return NodeInfo(name, JobRef("q", name), function, state, waits, None, by)


def test_layers_follow_what_waits() -> None:
    boxes = boxes_of([node("c", "a", "b"), node("b", "a"), node("a")])
    assert [(box.name, box.layer, box.after) for box in boxes] == [
        ("a", 0, []),
        ("b", 1, [0]),
        ("c", 2, [0, 1]),
    ]


def test_alike_nodes_are_one_box_with_the_state_that_matters() -> None:
    children = [node(f"f-{n}", "a") for n in range(99)]
    dead = node("f-dead", "a", state=State.DEAD)
    names = [child.name for child in [*children, dead]]
    boxes = boxes_of([node("a"), *children, dead, node("z", *names)])
    assert [box.title for box in boxes] == ["a", "f-0 x 100", "z"]
    assert boxes[1].state is State.DEAD
    assert boxes[1].told == "1 dead, 99 succeeded"
    assert boxes[2].after == [1]


def test_a_few_alike_nodes_keep_their_names() -> None:
    boxes = boxes_of([node("f-1"), node("f-2"), node("f-3")])
    assert [box.title for box in boxes] == ["f-1", "f-2", "f-3"]


def test_an_added_node_stands_behind_the_one_that_has_added_it() -> None:
    boxes = boxes_of([node("a"), node("b", by="a")])
    assert boxes[1].after == [0]


def test_a_circle_from_a_store_comes_to_an_end() -> None:
    boxes = boxes_of([node("a", "b"), node("b", "a")])
    assert len(boxes) == 2


def test_a_picture_is_xml_whatever_the_names_are() -> None:
    nasty = '</text><script>alert("x")</script>&\x1b[31m'
    picture = svg_of(nasty, boxes_of([node("a"), node(nasty, "a")]))
    root = ET.fromstring(picture)
    tags = {element.tag.rpartition("}")[2] for element in root.iter()}
    assert tags == {"svg", "title", "rect", "text", "path", "g"}
