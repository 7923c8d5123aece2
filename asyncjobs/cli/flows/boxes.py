"""The nodes of a flow as boxes in layers, for a terminal and for a picture.

A layered layout of our own: the libraries for it are larger than all that it needs here. Alike
nodes are one box, so ten thousand children are a picture that people can read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Final

from asyncjobs.guard.texts import visible
from asyncjobs.jobs.flow_info import NodeInfo
from asyncjobs.model.job import State

__all__ = ["MOST_BOXES", "Box", "boxes_of", "svg_of"]

MOST_BOXES: Final = 500
"""The most boxes of one picture."""
MOST_PASSES: Final = 1_000
ALIKE: Final = 4
"""So many nodes with the same function, parents and children are one box."""
SHOWN: Final = 28
"""Characters of a name in a picture."""
WIDTH, HEIGHT, GAP, SPACE = 210, 44, 18, 60

_FILLS: Final = {
    State.SUCCEEDED: "#2e7d32",
    State.RUNNING: "#1565c0",
    State.READY: "#5c6bc0",
    State.SCHEDULED: "#6d4c41",
    State.HELD: "#757575",
    State.DEAD: "#c62828",
    State.CANCELLED: "#ef6c00",
    State.DISCARDED: "#8e24aa",
}


@dataclass(slots=True)
class Box:
    """One node, or some that are alike. `after`: the places of the boxes that it waits for.
    `layer`: how many boxes are before it at the most."""

    name: str
    states: dict[State, int] = field(default_factory=dict)
    after: list[int] = field(default_factory=list)
    layer: int = 0

    @property
    def number(self) -> int:
        return sum(self.states.values())

    @property
    def state(self) -> State:
        """Of several the one that people have to see."""
        return max(self.states, key=lambda state: _WEIGHTS.get(state, 0))

    @property
    def title(self) -> str:
        """Its name, and how many nodes there are."""
        if self.number == 1:
            return self.name
        return f"{self.name} x {self.number:,}"

    @property
    def told(self) -> str:
        """Its state in words."""
        if self.number == 1:
            return self.state.value
        return ", ".join(f"{number:,} {state}" for state, number in sorted(self.states.items()))


_WEIGHTS: Final = {
    State.DEAD: 9,
    State.RUNNING: 8,
    State.CANCELLED: 7,
    State.DISCARDED: 6,
    State.READY: 5,
    State.SCHEDULED: 4,
    State.HELD: 3,
}


def boxes_of(nodes: Sequence[NodeInfo]) -> list[Box]:
    """The boxes of a flow. Each comes behind those that it waits for."""
    parents = {node.name: _parents(node) for node in nodes}
    children: dict[str, set[str]] = {}
    for name, before in parents.items():
        for parent in before:
            children.setdefault(parent, set()).add(name)
    alike: dict[tuple[str, frozenset[str], frozenset[str]], list[NodeInfo]] = {}
    for node in nodes:
        own = frozenset(children.get(node.name, ()))
        alike.setdefault((node.function, frozenset(parents[node.name]), own), []).append(node)
    boxes: list[Box] = []
    place: dict[str, int] = {}
    for same in alike.values():
        # A few are shown by their names.
        groups = [[node] for node in same]
        if len(same) >= ALIKE:
            groups = [same]
        for group in groups:
            box = Box(group[0].name)
            for node in group:
                place[node.name] = len(boxes)
                box.states[node.state] = box.states.get(node.state, 0) + 1
            boxes.append(box)
    # Of several nodes in one box each may wait for another box.
    for name, before in parents.items():
        box = boxes[place[name]]
        known = {place[parent] for parent in before if parent in place}
        box.after = sorted(known | set(box.after))
    return _layered(boxes)


def _parents(node: NodeInfo) -> list[str]:
    found = list(node.after)
    # What was added begins without parents of its own.
    if node.added_by is not None and not found:
        found.append(node.added_by)
    return found


def _layered(boxes: list[Box]) -> list[Box]:
    # What comes from a store may be a circle. Then the layers end with the number of boxes.
    for _ in range(min(len(boxes), MOST_PASSES)):
        is_changed = False
        for box in boxes:
            layer = max((boxes[before].layer + 1 for before in box.after), default=0)
            if layer > box.layer and layer < len(boxes):
                box.layer = layer
                is_changed = True
        if not is_changed:
            break
    order = sorted(range(len(boxes)), key=lambda number: boxes[number].layer)
    moved = {number: place for place, number in enumerate(order)}
    for box in boxes:
        box.after = sorted(moved[before] for before in box.after)
    return [boxes[number] for number in order]


def svg_of(title: str, boxes: Sequence[Box]) -> str:
    """A picture of these boxes, from left to right. All texts are escaped."""
    # Each layer is a column, and its boxes stand in the order in which they came.
    rows: dict[int, int] = {}
    places: list[tuple[int, int]] = []
    for box in boxes:
        row = rows.get(box.layer, 0)
        rows[box.layer] = row + 1
        places.append((20 + box.layer * (WIDTH + SPACE), 50 + row * (HEIGHT + GAP)))
    width = 40 + (max(rows, default=0) + 1) * (WIDTH + SPACE) - SPACE
    height = 70 + max(rows.values(), default=0) * (HEIGHT + GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<title>{_text(title)}</title><rect width="100%" height="100%" fill="#ffffff"/>',
        f'<text x="20" y="28" font-size="16">{_text(title)}</text>',
    ]
    # Below the boxes, so that no line crosses a name.
    parts += _lines(boxes, places)
    for box, (x, y) in zip(boxes, places, strict=True):
        parts.append(
            f"<g><title>{_text(box.title)}: {_text(box.told)}</title>"
            f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="6" '
            f'fill="{_FILLS.get(box.state, "#757575")}"/>'
            f'<text x="{x + 10}" y="{y + 19}" fill="#ffffff">{_text(box.title, SHOWN)}</text>'
            f'<text x="{x + 10}" y="{y + 35}" fill="#ffffff" font-size="10">'
            f"{_text(box.told, SHOWN + 8)}</text></g>"
        )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _lines(boxes: Sequence[Box], places: Sequence[tuple[int, int]]) -> list[str]:
    found: list[str] = []
    for box, (x, y) in zip(boxes, places, strict=True):
        for before in box.after:
            from_x, from_y = places[before][0] + WIDTH, places[before][1] + HEIGHT // 2
            to_y, half = y + HEIGHT // 2, SPACE // 2
            found.append(
                f'<path d="M{from_x} {from_y} C{from_x + half} {from_y} {x - half} {to_y} '
                f'{x} {to_y}" fill="none" stroke="#9e9e9e"/>'
            )
    return found


def _text(text: str, most: int = 200) -> str:
    shown = visible(text)
    if len(shown) > most:
        shown = shown[: most - 1] + "…"
    # rule:40 the name of a node is text in a picture, whatever it is
    return escape(shown)
