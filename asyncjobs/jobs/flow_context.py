"""The flow of a running job, as the job sees it: `ctx.flow`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Protocol

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.effects import FindEffects
from asyncjobs.jobs.node_names import Names
from asyncjobs.model.flow_mark import FlowMark

__all__ = ["Expandable", "FlowContext"]


class Expandable(Protocol):
    """A call or a workflow."""

    def first_call(self) -> Any:
        """One of its calls; None if it has none."""
        ...


class FlowContext:
    """The flow that a job belongs to. Asks no store, but for `expand`.

    name: of the flow; '' without one. id: its public id, `queue/id`, for `app.flows.get`. node: the
    name of this node.
    """

    __slots__ = ("_effects", "_first", "_values", "mark", "taken")

    def __init__(self, mark: FlowMark, context: Mapping[str, Any], effects: FindEffects) -> None:
        self.mark = mark
        self.taken = Names()
        """The names of the nodes that this attempt adds."""
        self._values = context
        self._effects = effects
        self._first = 0

    @property
    def name(self) -> str:
        return self.mark.name

    @property
    def id(self) -> str:
        return f"{self.mark.node.queue}/{self.mark.node.flow}"

    @property
    def node(self) -> str:
        return self.mark.node.node

    @property
    def context(self) -> Mapping[str, Any]:
        """The values that `app.flows.start(context=...)` gave to all jobs of the flow. They cannot
        be changed."""
        return MappingProxyType(dict(self._values))

    async def expand(self, work: Expandable, /) -> list[str]:
        """Add nodes to the flow: `await ctx.flow.expand(group(f.bind(n) for n in pages))`. Returns
        their names.

        They are stored with the success of this attempt, in the same step, and dropped with any
        other end of it, like the jobs of `ctx.enqueue`. What waits for this node waits for them,
        too, and for what they add. It gets the result of this node, not theirs: end with a call
        that stores what they have found.

        work: a call, `chain`, `group`, `chord` or `Flow`, of at most 1,000 nodes. All that one
        attempt adds and enqueues may be 1,000 jobs of 4 MiB.

        Raises UsageError like `app.flows.start`, after the end of the attempt, and with
        isolation='process'; EncodeError, PayloadTooLarge and Aborted.
        """
        # Not by its class, which would import what imports this module.
        find = getattr(work, "first_call", None)
        call = find() if find is not None else None
        if call is None:
            raise UsageError(
                f"ctx.flow.expand() takes a call or a workflow with at least one, not {shown(work)}"
            )
        names: list[str] = await call.function.sender.expand(work, self, self._effects)
        return names

    def numbers(self, many: int) -> int:
        """The first of so many numbers for new nodes, which no other one of this attempt gets."""
        first = self._first
        self._first += many
        return first

    @property
    def values(self) -> dict[str, Any]:
        """The values, as they are handed on to new nodes."""
        return dict(self._values)

    def __repr__(self) -> str:
        return f"<FlowContext {self.id} node {self.node!r}>"
