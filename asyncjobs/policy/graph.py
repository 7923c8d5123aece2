"""The graph of a flow: which node waits for which, checked and turned into barriers.

Nodes are numbers here, in the order in which they were drawn. All nodes with the same parents in
one queue wait behind one barrier. So ten thousand nodes behind ten thousand others are one counter,
and not a hundred million edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush
from typing import Final, NamedTuple, TypeAlias

from asyncjobs.model.terms import OnFailure

__all__ = ["MOST_ONWARD", "Edges", "Front", "Graph", "find_cycle", "fronts_of", "in_order"]

MOST_ONWARD: Final = 1_000
"""The most barriers that the end of one node counts down. The store does it in one step."""

Edges: TypeAlias = tuple[tuple[int, OnFailure], ...]
"""The parents of a node, and what happens to it when one of them fails. Nodes that are drawn
together share one such tuple."""


class Front(NamedTuple):
    """Nodes of one queue that wait for the same parents: they are behind one barrier."""

    queue: str
    edges: Edges
    nodes: list[int]


class Graph(NamedTuple):
    """`fronts`: the barriers, without that of the roots. `behind`: for each node the number of its
    front; None for a root. `onward`: for each node the fronts that its end counts down."""

    fronts: list[Front]
    behind: list[int | None]
    onward: list[list[tuple[int, OnFailure]]]

    def ends(self) -> list[int]:
        """The nodes that nothing waits for."""
        return [node for node, fronts in enumerate(self.onward) if not fronts]


def fronts_of(queues: Sequence[str], parents: Sequence[Edges]) -> Graph:
    """The barriers of these nodes, each with its queue and its parents."""
    fronts: list[Front] = []
    behind: list[int | None] = []
    places: dict[tuple[str, int], int] = {}
    known: dict[Edges, int] = {}
    by_object: dict[int, int] = {}
    for node, edges in enumerate(parents):
        if not edges:
            behind.append(None)
            continue
        # By the object first: the hash of a tuple with ten thousand parents takes a while, and
        # ten thousand nodes may share it.
        alike = by_object.get(id(edges))
        if alike is None:
            alike = by_object[id(edges)] = known.setdefault(edges, len(known))
        # A barrier stands in one queue, with the jobs behind it.
        place = places.get((queues[node], alike))
        if place is None:
            place = places[queues[node], alike] = len(fronts)
            fronts.append(Front(queues[node], edges, []))
        fronts[place].nodes.append(node)
        behind.append(place)
    onward: list[list[tuple[int, OnFailure]]] = [[] for _ in parents]
    for place, front in enumerate(fronts):
        for parent, on_failure in front.edges:
            onward[parent].append((place, on_failure))
    return Graph(fronts, behind, onward)


def find_cycle(after: Mapping[int, Sequence[int]]) -> list[int]:
    """Nodes that wait for each other in a circle, in its order; empty when there is none."""
    done: set[int] = set()
    for start in after:
        path: list[int] = []
        on_path: set[int] = set()
        # By hand, for a chain of a thousand nodes would be too deep for recursion.
        stack = [(start, iter(after[start]))]
        while stack:
            node, rest = stack[-1]
            if node not in on_path:
                if node in done:
                    stack.pop()
                    continue
                path.append(node)
                on_path.add(node)
            step = next((each for each in rest if each not in done), None)
            if step is None:
                done.add(node)
                on_path.discard(path.pop())
                stack.pop()
            elif step in on_path:
                # rule:40 a flow whose nodes wait for each other in a circle is refused
                return path[path.index(step) :]
            else:
                stack.append((step, iter(after.get(step, ()))))
    return []


def in_order(
    count: int, after: Mapping[int, Sequence[int]], refuse: Callable[[list[int]], None]
) -> list[int]:
    """These numbers so that each comes behind those that it is `after`, and else in their own
    order. `refuse` is called with a circle, and raises."""
    if circle := find_cycle(after):
        refuse(circle)
    waits = {node: len(set(after.get(node, ()))) for node in range(count)}
    children: dict[int, list[int]] = {}
    for node, parents in after.items():
        for parent in set(parents):
            children.setdefault(parent, []).append(node)
    # The lowest number first, so that nodes keep the order in which they were added.
    ready = [node for node in range(count) if not waits[node]]
    ordered: list[int] = []
    while ready:
        node = heappop(ready)
        ordered.append(node)
        for child in children.get(node, ()):
            waits[child] -= 1
            if not waits[child]:
                heappush(ready, child)
    return ordered
