"""Nodes of a flow as users hold them, and what stands for their results in calls."""

from __future__ import annotations

from typing import Any, Final, Generic, Protocol, TypeVar, cast

from asyncjobs.jobs.typed import Placeholder

__all__ = ["PREVIOUS", "Node", "Previous", "Result"]

R_co = TypeVar("R_co", covariant=True)
D = TypeVar("D")


class Owner(Protocol):
    """The flow that a node belongs to."""


class Node(Generic[R_co]):
    """A node of a `Flow`: what `flow.add(...)` returns.

    It is given to `after=` of other nodes, and its `result` stands in their arguments. `name` is
    the one that was given; None: the flow makes one of the job function's name.
    """

    __slots__ = ("flow", "name", "title")

    def __init__(self, flow: Owner, name: str | None, title: str) -> None:
        self.flow = flow
        self.name = name
        self.title = title
        """What errors call it."""

    @property
    def result(self) -> R_co:
        """Stands for what this node returns: `flow.add(g.bind(x.result, 5))`.

        For a type checker it is the result itself. It may stand for a whole argument, or for an
        item of lists, tuples and dicts in one. The node that gets it waits for this one. When this
        one fails, that one is cancelled: use `result_or` for a node that runs all the same.
        """
        # A type checker must see what the other job function will get.
        return cast(R_co, Result(self, None))

    def result_or(self, default: D) -> R_co | D:
        """The same, and `default` in its place if this node has failed or was skipped. `default`
        has to be JSON."""
        return cast("R_co | D", Result(self, (default,)))

    def __repr__(self) -> str:
        return f"<Node {self.title}>"


class Result(Placeholder):
    """The result of a node, in the arguments of a call."""

    __slots__ = ("default", "node")

    def __init__(self, node: Node[Any], default: tuple[Any] | None) -> None:
        self.node = node
        self.default = default

    def __repr__(self) -> str:
        return f"<the result of node {self.node.title!r}>"


class Previous(Placeholder):
    """Stands for the result of what comes before, in the arguments of a call."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "PREVIOUS"


PREVIOUS: Final[Any] = Previous()
"""In a call of a `chain`, or in the callback of a `chord`: the result of what comes before it.
`chain(load.bind(7), save.bind(PREVIOUS, to="disk"))`."""
