"""Flows as users write them: `chain`, `group`, `chord` and `Flow`.

Each is a `Workflow`, and an item of any other. They are plain descriptions: nothing is stored
before `app.flows.start(...)`, and one may be started any number of times.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Generic, Protocol, TypeAlias, TypeVar, cast, overload

from asyncjobs.errors import UsageError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.drawing import (
    MOST_NODES_OF_FLOW,
    Before,
    Drawing,
    Outlet,
    check_node_name,
    references_in,
)
from asyncjobs.jobs.function import JobCall, JobFunction
from asyncjobs.jobs.node import PREVIOUS, Node
from asyncjobs.model.terms import OnFailure
from asyncjobs.policy.graph import in_order

__all__ = ["After", "Flow", "Item", "Taking", "Workflow", "chain", "chord", "group"]

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
E = TypeVar("E")
R = TypeVar("R")
A_contra = TypeVar("A_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

_ON_FAILURE: Final = ("cancel", "run", "skip")


class Workflow(Generic[R_co]):
    """Jobs that wait for each other: what `chain`, `group`, `chord` and `Flow` make.

    Started by `app.flows.start(...)`. The type is that of its result.
    """

    def _draw(self, drawing: Drawing, before: Before, prefix: str) -> Outlet:
        """Draw its nodes behind `before`. Raises UsageError."""
        raise NotImplementedError  # each kind of workflow says it

    def _parts(self) -> Iterable[Any]:
        """The calls and workflows that it is made of."""
        raise NotImplementedError  # the same

    def first_call(self) -> JobCall[Any] | None:
        """One of its calls; None if it has none."""
        stack: list[Any] = [self]
        # A flow may contain itself, which its drawing tells.
        for _ in range(MOST_NODES_OF_FLOW):
            if not stack:
                break
            each = stack.pop()
            if isinstance(each, JobCall):
                return each
            if isinstance(each, Workflow):
                stack += each._parts()
        return None


class Taking(Protocol[A_contra, R_co]):
    """A job function that can be called with one value: an item of a chain, or a callback."""

    def bind(self, value: A_contra, /) -> JobCall[R_co]: ...


Item: TypeAlias = JobCall[R] | Workflow[R]
"""What a workflow is made of: `f.bind(...)`, or another workflow."""
Next: TypeAlias = Taking[A, R] | JobCall[R] | Workflow[R]
"""What may follow an item with a result of the type A."""
After: TypeAlias = "Node[Any] | str | Sequence[Node[Any] | str] | Mapping[Any, OnFailure]"


class _Chain(Workflow[R_co]):
    def __init__(self, items: Sequence[Any], on_failure: OnFailure, kind: str) -> None:
        _check_on_failure(on_failure, kind)
        # rule:40 a chain without an item is refused when it is made
        if not items:
            raise UsageError(f"{kind}() needs at least one item, such as f.bind(...)")
        for item in items:
            _check_item(item, kind, takes_functions=True)
        self._items = tuple(items)
        self._on_failure: OnFailure = on_failure

    def _parts(self) -> Iterable[Any]:
        return self._items

    def _draw(self, drawing: Drawing, before: Before, prefix: str) -> Outlet:
        outlet = Outlet(None, ())
        for item in self._items:
            call = item
            if isinstance(item, JobFunction):
                call = JobCall(item, (PREVIOUS,), {})
            outlet = drawing.add(call, before, prefix)
            before = before.then(outlet, self._on_failure)
        return outlet

    def __repr__(self) -> str:
        return f"<chain of {len(self._items):,}>"


class _Group(Workflow[list[R]]):
    def __init__(self, items: Sequence[Any]) -> None:
        for item in items:
            _check_item(item, "group")
        self._items = tuple(items)

    def _parts(self) -> Iterable[Any]:
        return self._items

    def _draw(self, drawing: Drawing, before: Before, prefix: str) -> Outlet:
        outlets = [drawing.add(item, before, prefix) for item in self._items]
        ends = dict.fromkeys(end for outlet in outlets for end in outlet.ends)
        return Outlet([outlet.value for outlet in outlets], tuple(ends))

    def __repr__(self) -> str:
        return f"<group of {len(self._items):,}>"


@overload
def chain(first: Item[R], /, *, on_failure: OnFailure = "cancel") -> Workflow[R]: ...
@overload
def chain(
    first: Item[A], second: Next[A, R], /, *, on_failure: OnFailure = "cancel"
) -> Workflow[R]: ...
@overload
def chain(
    first: Item[A], second: Next[A, B], third: Next[B, R], /, *, on_failure: OnFailure = "cancel"
) -> Workflow[R]: ...
@overload
def chain(
    first: Item[A],
    second: Next[A, B],
    third: Next[B, C],
    fourth: Next[C, R],
    /,
    *,
    on_failure: OnFailure = "cancel",
) -> Workflow[R]: ...
@overload
def chain(
    first: Item[A],
    second: Next[A, B],
    third: Next[B, C],
    fourth: Next[C, E],
    fifth: Next[E, R],
    /,
    *,
    on_failure: OnFailure = "cancel",
) -> Workflow[R]: ...
@overload
def chain(
    first: Item[Any],
    second: Next[Any, Any],
    third: Next[Any, Any],
    fourth: Next[Any, Any],
    fifth: Next[Any, Any],
    sixth: Next[Any, Any],
    /,
    *rest: Next[Any, Any],
    on_failure: OnFailure = "cancel",
) -> Workflow[Any]: ...
def chain(*items: Any, on_failure: OnFailure = "cancel") -> Workflow[Any]:
    """One after the other: `chain(load.bind(7), parse, save.bind(PREVIOUS, "disk"))`.

    An item is a call, `f.bind(...)`, or a workflow. A job function as an item is called with the
    result of the item before it, as its only argument. A call just runs after it, and gets that
    result where `PREVIOUS` stands. The result of the chain is that of its last item.

    on_failure: what happens to each item when the one before it has failed: `cancel`, `run` (it
    gets None as the result) or `skip`.

    Raises UsageError for no item, and for what is none.
    """
    return _Chain(items, on_failure, "chain")


@overload
def group(items: Iterable[Item[R]], /) -> Workflow[list[R]]: ...
@overload
def group(*items: Item[R]) -> Workflow[list[R]]: ...
def group(*items: Any) -> Workflow[list[Any]]:
    """All at the same time: `group(f.bind(1), g.bind(2))`, or `group(f.bind(n) for n in ...)`.

    Items are calls, `f.bind(...)`, and workflows. The result is the list of their results, in the
    order of the items. A group without items has the result [].

    Raises UsageError for what is no item.
    """
    if len(items) == 1 and not isinstance(items[0], JobCall | Workflow | JobFunction):
        return _Group(_listed(items[0], "group"))
    return _Group(items)


def chord(
    items: Workflow[list[A]] | Iterable[Item[A]],
    callback: Next[list[A], R],
    *,
    on_failure: OnFailure = "cancel",
) -> Workflow[R]:
    """A group, and what runs after all of it: `chord([f.bind(n) for n in pages], merge)`.

    The callback gets the list of the results, like the next item of a `chain`. Without items it
    runs at once, with []. The result is that of the callback.

    on_failure: what happens to the callback when one of the group has failed: `cancel`, `run` (the
    list has None for those that failed) or `skip`.

    Raises UsageError for what is no item.
    """
    head = items
    if not isinstance(head, Workflow):
        # A callback behind a group is a chain of two.
        head = _Group(_listed(items, "chord"))
    return _Chain((head, callback), on_failure, "chord")


class _Added:
    """What was added to a flow: an item, and what it waits for."""

    __slots__ = ("after", "item", "node", "on_failure")

    def __init__(
        self,
        node: Node[Any],
        item: Any,
        after: dict[Node[Any] | str, OnFailure],
        on_failure: OnFailure,
    ) -> None:
        self.node = node
        self.item = item
        self.after = after
        self.on_failure: OnFailure = on_failure


class Flow(Workflow[Any]):
    """Named nodes that wait for each other.

        flow = Flow()
        data = flow.add(load.bind(7))
        page = flow.add(render.bind(data.result), name="page")
        flow.add(notify.bind(page.result), after=[data])

    Its result is that of the node that nothing waits for. When there are several, it is a dict of
    their results by name.
    """

    def __init__(self) -> None:
        self._added: list[_Added] = []
        self._by_name: dict[str, int] = {}
        self._places: dict[Node[Any], int] = {}

    def add(
        self,
        item: Item[R],
        *,
        after: After = (),
        name: str | None = None,
        on_failure: OnFailure = "cancel",
    ) -> Node[R]:
        """Add a call, `f.bind(...)`, or a workflow; returns its node.

        after: the nodes that it waits for, or their names. Names may be added later. A node whose
        `result` is in its arguments need not stand here. A dict says for each what happens when
        that one fails: `after={paid: "cancel", mailed: "run"}`.
        name: unique in the flow; by default the one of the job function, with a number if it is
        taken. The nodes of a workflow get it in front of theirs: `name.load`.
        on_failure: what happens to this node when one that it waits for has failed. `cancel`: it
        is cancelled, and counts as failed for those behind it. `run`: it runs all the same.
        `skip`: it is discarded, and counts as succeeded for those behind it.

        Raises UsageError for a name that is taken, a node of another flow, and what is no item.
        """
        _check_on_failure(on_failure, "flow.add")
        _check_item(item, "flow.add")
        if name is not None:
            check_node_name(name)
            # rule:40 two nodes of a flow never have one name
            if name in self._by_name:
                raise UsageError(f"the flow has a node {name!r} already; give another name")
        title = name or _title(item)
        # Only so that two of them are not one key in the result of the flow.
        if name is None and not isinstance(item, JobCall):
            title = f"{title} {len(self._added) + 1}"
        node: Node[R] = Node(self, name, title)
        waits = self._read_after(after, on_failure, node)
        if name is not None:
            self._by_name[name] = len(self._added)
        self._places[node] = len(self._added)
        self._added.append(_Added(node, item, waits, on_failure))
        return node

    def _read_after(
        self, after: After, on_failure: OnFailure, node: Node[Any]
    ) -> dict[Node[Any] | str, OnFailure]:
        if isinstance(after, Node | str):
            after = (after,)
        if not isinstance(after, Mapping):
            after = dict.fromkeys(after, on_failure)
        # Now, where the mistake is, and not when the flow starts.
        for each, how in after.items():
            _check_on_failure(how, "after=")
            if isinstance(each, str):
                continue
            if not isinstance(each, Node):
                raise UsageError(
                    f"node {node.title!r}: after= takes nodes of this flow and their names, not "
                    f"{shown(each)}"
                )
            # rule:40 a node of another flow would never end in this one
            if each.flow is not self:
                raise UsageError(
                    f"node {node.title!r} cannot wait for {each.title!r}, which belongs to another "
                    "flow; add that flow to this one, and wait for it as a whole"
                )
        return dict(after)

    def _parts(self) -> Iterable[Any]:
        return [added.item for added in self._added]

    def _waits(self) -> list[dict[int, OnFailure]]:
        """For each node the places of those that it waits for. Raises UsageError."""
        found: list[dict[int, OnFailure]] = []
        for added in self._added:
            waits: dict[int, OnFailure] = {}
            for each, how in added.after.items():
                if isinstance(each, Node):
                    waits[self._places[each]] = how
                    continue
                place = self._by_name.get(each)
                # rule:40 a node that does not exist would be waited for in vain
                if place is None:
                    raise UsageError(
                        f"node {added.node.title!r} waits for {each!r}, and the flow has no node "
                        "of this name; add it, or give its name= to the one that is meant"
                    )
                waits[place] = how
            for result in references_in(added.item):
                place = self._places.get(result.node)
                if place is not None:
                    waits.setdefault(place, added.on_failure)
            found.append(waits)
        return found

    def _draw(self, drawing: Drawing, before: Before, prefix: str) -> Outlet:
        if not self._added:
            raise UsageError("the flow has no node; call flow.add(f.bind(...))")
        waits = self._waits()

        def refuse(circle: list[int]) -> None:
            names = [self._added[place].node.title for place in [*circle, circle[0]]]
            raise UsageError(
                f"these nodes of the flow wait for each other: {' after '.join(names)}"
            )

        order = in_order(len(waits), dict(enumerate(map(list, waits))), refuse)
        outlets: dict[int, Outlet] = {}
        for place in order:
            added = self._added[place]
            # What begins the flow waits for what comes before the whole of it.
            own = before
            if waits[place]:
                own = Before.of(
                    [(outlets[each], how) for each, how in waits[place].items()], before
                )
            outlets[place] = drawing.put(added.node, added.item, own, prefix)
        awaited = {each for each_waits in waits for each in each_waits}
        ends = [place for place in range(len(waits)) if place not in awaited]
        found = dict.fromkeys(end for place in ends for end in outlets[place].ends)
        if len(ends) == 1:
            return Outlet(outlets[ends[0]].value, tuple(found))
        value: dict[int | str, Any] = {}
        for place in ends:
            added = self._added[place]
            key: int | str = added.node.title
            if isinstance(added.item, JobCall):
                (key,) = outlets[place].ends
            value[key] = outlets[place].value
        return Outlet(value, tuple(found))

    def __repr__(self) -> str:
        return f"<Flow of {len(self._added):,}>"


def _listed(items: Any, kind: str) -> list[Any]:
    try:
        return list(items)
    except TypeError:
        raise UsageError(
            f"{kind}() takes calls made by f.bind(...) and workflows, not {shown(items)}"
        ) from None


def _check_item(item: Any, kind: str, *, takes_functions: bool = False) -> None:
    if isinstance(item, JobCall | Workflow) or (takes_functions and isinstance(item, JobFunction)):
        return
    advice = "calls made by f.bind(...) and workflows"
    if isinstance(item, JobFunction):
        advice = f"calls: write {cast(Any, item).name.rpartition('.')[2]}.bind(...)"
    raise UsageError(f"{kind}() takes {advice}, not {shown(item)}")


def _check_on_failure(value: Any, where: str) -> None:
    if value not in _ON_FAILURE:
        raise UsageError(f"{where}: on_failure is 'cancel', 'run' or 'skip', not {shown(value)}")


def _title(item: Any) -> str:
    if isinstance(item, JobCall):
        return item.function.name.rpartition(".")[2]
    return str(item).strip("<>")
