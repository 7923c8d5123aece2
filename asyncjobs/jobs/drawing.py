"""From a workflow to its nodes: names, edges, and the results that stand in arguments."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from asyncjobs.errors import EncodeError, UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobCall
from asyncjobs.jobs.node import Node, Previous, Result
from asyncjobs.jobs.node_names import Names
from asyncjobs.jobs.typed import Written, has_placeholder
from asyncjobs.model.codec import check_json
from asyncjobs.model.terms import OnFailure
from asyncjobs.policy.graph import Edges

__all__ = [
    "MOST_NODES_OF_FLOW",
    "Before",
    "Drawing",
    "DrawnNode",
    "Outlet",
    "Shape",
    "Slot",
    "check_node_name",
    "references_in",
    "slots_in",
]

MOST_NODES_OF_FLOW: Final = 100_000
MOST_DEPTH: Final = 50
"""How deeply workflows may be nested."""
MOST_NAME: Final = 200


class Slot(NamedTuple):
    """The result of the node with this number. `default`: see `Node.result_or`."""

    node: int
    default: tuple[Any] | None = None


Shape: TypeAlias = "Slot | list[Any] | dict[int | str, Any] | None"
"""A value made of results: lists and dicts of slots. A number as a key stands for the name of that
node, which is not known before all are drawn."""


class Outlet(NamedTuple):
    """What a part of a flow gives to the next: its value, and the nodes that it ends with. `ends`
    is empty for a part without nodes, which is over when what comes before it is."""

    value: Shape
    ends: tuple[int, ...]


class Before(NamedTuple):
    """What comes before a part of a flow: a value, and the edges of its first nodes."""

    value: Shape = None
    edges: Edges = ()

    @classmethod
    def of(cls, outlets: Sequence[tuple[Outlet, OnFailure]], outer: Before) -> Before:
        """What comes before a node of a `Flow`."""
        edges: dict[int, OnFailure] = {}
        for outlet, on_failure in outlets:
            edges.update(dict.fromkeys(outlet.ends, on_failure))
        # Those before may have no nodes at all.
        return cls(None, tuple(edges.items()) or outer.edges)

    def then(self, outlet: Outlet, on_failure: OnFailure) -> Before:
        """What comes before the next part."""
        if not outlet.ends:
            return Before(outlet.value, self.edges)
        return Before(outlet.value, tuple((end, on_failure) for end in outlet.ends))


class Drawable(Protocol):
    """A workflow, as a drawing needs it."""

    def _draw(self, drawing: Drawing, before: Before, prefix: str) -> Outlet: ...

    def _parts(self) -> Any: ...


class DrawnNode:
    """One node: its call, the edges to its parents, and the results that its arguments need.

    `args` and `kwargs` have nothing at the places of these results. `references` has for each
    place the shape of the value.
    """

    __slots__ = ("args", "call", "edges", "kwargs", "name", "references", "title")

    def __init__(self, call: JobCall[Any], edges: Edges, title: str, name: str | None) -> None:
        self.call = call
        self.edges = edges
        self.title = title
        self.name = name or ""
        self.args: tuple[Any, ...] = call.args
        self.kwargs: dict[str, Any] = call.kwargs
        self.references: list[tuple[tuple[int | str, ...], Shape]] = []


class Drawing:
    """Collects the nodes of one flow. `nodes` are in the order in which they were drawn: each
    comes behind its parents."""

    def __init__(self) -> None:
        self.nodes: list[DrawnNode] = []
        self.outlet = Outlet(None, ())
        self._outlets: dict[Node[Any], Outlet] = {}
        self._names = Names()
        self._depth = 0

    @classmethod
    def of(cls, item: Any, *, prefix: str = "", taken: Names | None = None) -> Drawing:
        """The drawing of this workflow, or of one call. Raises UsageError and EncodeError.

        `prefix`: what all names begin with. `taken`: names that are there, and those of this one
        after that.
        """
        drawing = cls()
        if taken is not None:
            drawing._names = taken
        drawing.outlet = drawing.add(item, Before(), prefix)
        drawing._give_names()
        return drawing

    def put(self, node: Node[Any], item: Any, before: Before, prefix: str) -> Outlet:
        """Draw an item of a `Flow`."""
        if isinstance(item, JobCall):
            outlet = self._call(item, before, prefix, node.name)
        elif node.name is not None:
            outlet = self.add(item, before, f"{prefix}{node.name}.")
        else:
            outlet = self.add(item, before, prefix)
        self._outlets[node] = outlet
        return outlet

    def name_of(self, node: Node[Any]) -> str:
        """The name of a node of a `Flow`. Raises UsageError for one of another flow, and for a
        workflow, which has no name of its own."""
        outlet = self._outlets.get(node)
        if outlet is None or not isinstance(outlet.value, Slot):
            raise UsageError(f"node {node.title!r} is no single node of this flow; give a name")
        return self.nodes[outlet.value.node].name

    def add(self, item: Any, before: Before, prefix: str) -> Outlet:
        """Draw an item behind `before`."""
        if isinstance(item, JobCall):
            return self._call(item, before, prefix, None)
        self._depth += 1
        # rule:40 workflows that contain each other end in an error, not in the stack
        if self._depth > MOST_DEPTH:
            raise UsageError(
                f"workflows are nested over {MOST_DEPTH} deep; does one of them contain itself?"
            )
        drawable: Drawable = item
        outlet = drawable._draw(self, before, prefix)
        self._depth -= 1
        return outlet

    def _call(self, call: JobCall[Any], before: Before, prefix: str, name: str | None) -> Outlet:
        # rule:40 a flow has a bounded number of nodes
        if len(self.nodes) >= MOST_NODES_OF_FLOW:
            raise UsageError(
                f"a flow may have {MOST_NODES_OF_FLOW:,} nodes; let nodes add more of them by "
                "ctx.flow.expand(), or start several flows"
            )
        # Of a dotted name the last part is what people call the function.
        own = call.function.name.rpartition(".")[2]
        title = f"{prefix}{name or own}"
        drawn = DrawnNode(call, before.edges, title, None)
        if name is not None:
            drawn.name = title
            if title in self._names.taken:
                raise UsageError(f"the flow has two nodes {title!r}; give another name")
            self._names.taken.add(title)
        if has_placeholder((*call.args, *call.kwargs.values())):
            self._fill(drawn, before)
        self.nodes.append(drawn)
        return Outlet(Slot(len(self.nodes) - 1), (len(self.nodes) - 1,))

    def _give_names(self) -> None:
        """Name those that nobody has named, in their order."""
        for drawn in self.nodes:
            if not drawn.name:
                drawn.name = self._names.give(drawn.title)

    # -- results in arguments -----------------------------------------------------------------

    def _fill(self, drawn: DrawnNode, before: Before) -> None:
        """Take the placeholders out of its arguments, and add the edges that they imply."""
        edges = dict(drawn.edges)
        is_typed = drawn.call.function.binding.is_typed

        def whole(place: int | str, value: Any) -> Any:
            if not has_placeholder((value,)):
                return value
            blank = self._blank(drawn, before, edges, value, (place,))
            # The rest of the argument must be JSON as it stands: its type sees it only later.
            check_json(blank, f"{drawn.title}: argument {place!r}")
            if is_typed:
                return Written(blank, is_whole=False)
            return blank

        call = drawn.call
        drawn.args = tuple(whole(place, value) for place, value in enumerate(call.args))
        drawn.kwargs = {name: whole(name, value) for name, value in call.kwargs.items()}
        drawn.edges = tuple(edges.items())

    def _blank(
        self,
        drawn: DrawnNode,
        before: Before,
        edges: dict[int, OnFailure],
        value: Any,
        path: tuple[int | str, ...],
    ) -> Any:
        """The value with None in place of the results, which are noted in `drawn`."""
        if len(path) > MOST_DEPTH:
            raise EncodeError(f"{drawn.title}: an argument is nested too deeply")
        if isinstance(value, Result):
            drawn.references.append((path, self._result(drawn, edges, value)))
            return None
        if isinstance(value, Previous):
            drawn.references.append((path, self._previous(drawn, before, edges)))
            return None
        if isinstance(value, list | tuple):
            return [
                self._blank(drawn, before, edges, each, (*path, place))
                for place, each in enumerate(value)
            ]
        if isinstance(value, dict):
            return {
                key: self._blank(drawn, before, edges, each, (*path, key))
                for key, each in value.items()
            }
        return value

    def _result(self, drawn: DrawnNode, edges: dict[int, OnFailure], value: Result) -> Shape:
        outlet = self._outlets.get(value.node)
        # Each node is drawn behind those that it waits for. So it is none of this flow.
        if outlet is None:
            raise UsageError(
                f"node {drawn.title!r} needs the result of {value.node.title!r}, which is no node "
                "of this flow before it; add it to the same flow"
            )
        # An edge that `after=` has given stays as it is.
        for end in outlet.ends:
            edges.setdefault(end, "cancel")
        if value.default is not None:
            check_json(value.default[0], f"{drawn.title}: the default of {value!r}")
            return _with_default(outlet.value, value.default)
        for node in slots_in(outlet.value):
            if self._may_miss(node, edges):
                raise UsageError(
                    f"node {drawn.title!r} runs even if {value.node.title!r} has no result; write "
                    "result_or(None) in place of result, with what it shall get then"
                )
        return outlet.value

    def _previous(self, drawn: DrawnNode, before: Before, edges: dict[int, OnFailure]) -> Shape:
        if before.value is None:
            raise UsageError(
                f"node {drawn.title!r} needs the result of what comes before it, and nothing does; "
                "write f.bind(...) for the first item of a chain, and node.result in a Flow"
            )
        if any(self._may_miss(node, edges) for node in slots_in(before.value)):
            return _with_default(before.value, (None,))
        return before.value

    def _may_miss(self, node: int, edges: dict[int, OnFailure]) -> bool:
        """Whether a node may run without the result of this one."""
        return edges.get(node) == "run" or "skip" in dict(self.nodes[node].edges).values()


def check_node_name(name: Any) -> None:
    """Raises UsageError for what cannot be the name of a node."""
    if not isinstance(name, str) or not 0 < len(name) <= MOST_NAME or not name.isprintable():
        raise UsageError(
            f"the name of a node is a text of 1 to {MOST_NAME} printable characters, not "
            f"{shown(name)}"
        )


def references_in(item: Any) -> Iterator[Result]:
    """The results of nodes that the calls of this item need."""
    stack = [item]
    seen = 0
    while stack:
        each = stack.pop()
        seen += 1
        if seen > 10 * MOST_NODES_OF_FLOW:
            raise UsageError("the flow has too many nodes, or a workflow contains itself")
        if isinstance(each, JobCall):
            if has_placeholder((*each.args, *each.kwargs.values())):
                yield from _results((*each.args, *each.kwargs.values()))
        elif hasattr(each, "_parts"):
            stack += each._parts()


def _results(value: Any) -> Iterator[Result]:
    if isinstance(value, Result):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _results(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _results(each)


def slots_in(value: Shape) -> Iterator[int]:
    """The nodes that a value is made of."""
    if isinstance(value, Slot):
        yield value.node
    elif isinstance(value, list):
        for each in value:
            yield from slots_in(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from slots_in(each)


def _with_default(value: Shape, default: tuple[Any]) -> Shape:
    if isinstance(value, Slot):
        return value._replace(default=default)
    if isinstance(value, list):
        return [_with_default(each, default) for each in value]
    if isinstance(value, dict):
        return {name: _with_default(each, default) for name, each in value.items()}
    return value
