"""What a job carries when it is a node of a flow: where it belongs, and the results that it needs.

Both are headers, and only this module knows their form. A reference names a node by its number, and
the id of a job follows from that. So the job behind ten thousand others carries a few bytes of
them. Anyone who can write to the store may have written these headers, so each reader checks them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from asyncjobs.guard.untrusted import LAST_MS
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.headers import Headers
from asyncjobs.model.refs import JobRef
from asyncjobs.model.terms import Arrival, FlowNode, OnFailure

__all__ = [
    "CONTEXT",
    "MARK",
    "MOST_PARENTS",
    "MOST_REFERRED",
    "REFERENCES",
    "FlowMark",
    "Leaf",
    "Reference",
    "Run",
    "Value",
    "context_of",
    "filled",
    "flow_mark",
    "job_id",
    "leaves_of",
    "mark_header",
    "parents_of",
    "read_references",
    "read_value",
    "ref_of",
    "stored_references",
    "stored_value",
    "with_parents",
    "without_references",
]

MARK: Final = "flow"
REFERENCES: Final = "refs"
PARENTS: Final = "parents"
MOST_PARENTS: Final = 8
"""A callback behind 10,000 jobs links to so many of them."""
CONTEXT: Final = "context"

MOST_REFERRED: Final = 100_000
"""The most results that one job may need."""
MOST_DEPTH: Final = 50
_LETTERS: Final[dict[OnFailure, str]] = {"cancel": "c", "run": "r", "skip": "s"}
_ON_FAILURE: Final[dict[str, OnFailure]] = {"c": "cancel", "r": "run", "s": "skip"}


class Leaf(NamedTuple):
    """The result of one node. `key`: its number in the flow. `round`: how often the flow was
    retried when its job was made. `default`: a list with what stands for a result that is not
    there; None: without it the job cannot run."""

    queue: str
    key: str
    round: int = 0
    default: tuple[Any] | None = None


class Run(NamedTuple):
    """The results of nodes whose numbers follow each other, in a list. `base`: what their numbers
    begin with."""

    queue: str
    base: str
    first: int
    many: int
    round: int = 0
    default: tuple[Any] | None = None

    def leaves(self) -> Iterator[Leaf]:
        for number in range(self.first, self.first + self.many):
            yield Leaf(self.queue, f"{self.base}{number}", self.round, self.default)


Value: TypeAlias = "Leaf | Run | list[Any] | dict[str, Any]"
"""A value that is made of results: lists and dicts of leaves, and runs inside of lists."""


class Reference(NamedTuple):
    """A place in the arguments of a call, and the value that is put there before it runs."""

    path: tuple[int | str, ...]
    value: Value


class FlowMark(NamedTuple):
    """The node of a flow that a job is. `name`: of the flow. `keep_ms`: how long results are
    kept. `arrivals`: what its end counts down, for a job that adds others in front of these
    barriers."""

    node: FlowNode
    key: str
    name: str
    round: int
    keep_ms: int
    arrivals: tuple[Arrival, ...]

    @property
    def id(self) -> str:
        return self.node.flow


def job_id(flow: str, key: str, round: int) -> str:
    """The id of the job of a node. A retry of the flow makes another one: the first id is known
    to the store for some time, and would not be taken again."""
    if round:
        return f"{flow}-{key}-r{round}"
    return f"{flow}-{key}"


def mark_header(mark: FlowMark, context: dict[str, Any] | None) -> dict[str, Any]:
    """The headers of a job that is this node."""
    arrivals = [[each.queue, each.barrier, _LETTERS[each.on_failure]] for each in mark.arrivals]
    queue, flow, node = mark.node
    # Ten thousand jobs may carry it, so it is a list without the names of its fields.
    fields = [queue, flow, node, mark.key, mark.name, mark.round, mark.keep_ms, arrivals]
    header: dict[str, Any] = {MARK: fields}
    if context:
        header[CONTEXT] = context
    return header


def flow_mark(headers: Headers) -> FlowMark | None:
    """The node of a flow that the job is; None for most jobs, and for what is no such header."""
    stored = headers.fields.get(MARK)
    match stored:
        case [
            str(queue),
            str(flow),
            str(node),
            str(key),
            str(name),
            int(round),
            int(keep_ms),
            list(arrivals),
        ] if queue and flow and node and key and round >= 0 and 0 < keep_ms <= LAST_MS:
            found: list[Arrival] = []
            for each in arrivals:
                match each:
                    case [str(where), str(barrier), ("c" | "r" | "s") as letter]:
                        found.append(Arrival(where, barrier, _ON_FAILURE[letter]))
                    case _:
                        # The job runs all the same, as one that is in no flow.
                        return None
            return FlowMark(FlowNode(queue, flow, node), key, name, round, keep_ms, tuple(found))
    return None


def context_of(headers: Headers) -> dict[str, Any]:
    """The values that hold for the whole flow."""
    found = headers.fields.get(CONTEXT)
    if isinstance(found, dict):
        return found
    return {}


def with_parents(trace: dict[str, Any], parents: Sequence[JobRef]) -> dict[str, Any]:
    """What a job carries of its trace, with the jobs whose attempts its own ones link to."""
    return {**trace, PARENTS: [[*parent] for parent in parents[:MOST_PARENTS]]}


def parents_of(trace: Any) -> list[JobRef]:
    """These jobs; none for what is no such list."""
    if not isinstance(trace, dict):
        return []
    stored = trace.get(PARENTS)
    if not isinstance(stored, list):
        return []
    found: list[JobRef] = []
    for each in stored[:MOST_PARENTS]:
        match each:
            case [str(queue), str(id)] if queue and id:
                found.append(JobRef(queue, id))
            case _:
                return []
    return found


# -- references ---------------------------------------------------------------------------------


def stored_references(references: Sequence[Reference]) -> dict[str, Any]:
    """The header of a job that needs these results."""
    return {REFERENCES: [[list(each.path), stored_value(each.value)] for each in references]}


def without_references(headers: Headers) -> Headers:
    """The headers of a job whose arguments have their values."""
    return Headers({key: value for key, value in headers.fields.items() if key != REFERENCES})


def read_references(headers: Headers) -> list[Reference]:
    """Raises BadRecord: without its arguments a job must not run."""
    found: list[Reference] = []
    stored = headers.fields.get(REFERENCES, [])
    if not isinstance(stored, list):
        raise BadRecord("its references to results are no list")
    for entry in stored:
        match entry:
            case [[int() | str(), *_] as path, value] if all(
                type(step) in (int, str) for step in path
            ):
                found.append(Reference(tuple(path), read_value(value)))
            case _:
                raise BadRecord("one of its references to results cannot be read")
    return found


def stored_value(value: Value) -> Any:
    """A value of results as JSON. Leaves of a list whose numbers follow each other become runs."""
    if isinstance(value, Leaf):
        return _fields({"q": value.queue, "k": value.key}, value.round, value.default)
    if isinstance(value, Run):
        fields = {"q": value.queue, "b": value.base, "f": value.first, "c": value.many}
        return _fields(fields, value.round, value.default)
    if isinstance(value, dict):
        return {"m": {name: stored_value(each) for name, each in value.items()}}
    return [stored_value(each) for each in _runs(value)]


def _fields(fields: dict[str, Any], round: int, default: tuple[Any] | None) -> dict[str, Any]:
    if round:
        fields["r"] = round
    if default is not None:
        fields["d"] = default[0]
    return fields


def _runs(values: Sequence[Value]) -> Iterator[Value]:
    """The same values, with runs in place of leaves whose numbers follow each other."""
    run: Run | None = None
    for value in values:
        if not isinstance(value, Leaf):
            if run is not None:
                yield run
            run = None
            yield value
            continue
        base, dot, number = value.key.rpartition(".")
        base += dot
        # A default belongs to the leaf: a run has one for all.
        alike = (value.queue, base, value.round, value.default)
        if (
            run is not None
            and alike == (run.queue, run.base, run.round, run.default)
            and int(number) == run.first + run.many
        ):
            run = run._replace(many=run.many + 1)
            continue
        if run is not None:
            yield run
        run = Run(value.queue, base, int(number), 1, value.round, value.default)
    if run is not None:
        yield run


def read_value(stored: Any, depth: int = 0) -> Value:
    """Raises BadRecord for what `stored_value` does not write."""
    if depth > MOST_DEPTH:
        raise BadRecord("its references to results are nested too deeply")
    match stored:
        case list(values):
            return [read_value(each, depth + 1) for each in values]
        case {"m": dict(named)}:
            return {name: read_value(each, depth + 1) for name, each in named.items()}
        case {"q": str(queue), "k": str(key)}:
            return Leaf(queue, key, *_rest(stored))
        case {"q": str(queue), "b": str(base), "f": int(first), "c": int(many)}:
            # rule:40 a stored job asks for a bounded number of results
            if first >= 0 and 0 < many <= MOST_REFERRED:
                return Run(queue, base, first, many, *_rest(stored))
    raise BadRecord("one of its references to results cannot be read")


def _rest(stored: dict[str, Any]) -> tuple[int, tuple[Any] | None]:
    round = stored.get("r", 0)
    if type(round) is not int or round < 0:
        raise BadRecord("one of its references to results has no valid round")
    if "d" in stored:
        return round, (stored["d"],)
    return round, None


def leaves_of(value: Value) -> Iterator[Leaf]:
    """Each result that the value is made of, in order."""
    if isinstance(value, Leaf):
        yield value
    elif isinstance(value, Run):
        yield from value.leaves()
    elif isinstance(value, dict):
        for each in value.values():
            yield from leaves_of(each)
    else:
        for each in value:
            yield from leaves_of(each)


def filled(value: Value, result: Callable[[Leaf], Any]) -> Any:
    """The value with the results in their places. `result` is asked for each leaf."""
    if isinstance(value, Leaf):
        return result(value)
    if isinstance(value, Run):
        return [result(leaf) for leaf in value.leaves()]
    if isinstance(value, dict):
        return {name: filled(each, result) for name, each in value.items()}
    found: list[Any] = []
    for each in value:
        if isinstance(each, Run):
            # A run is a piece of the list that it stands in.
            found += filled(each, result)
        else:
            found.append(filled(each, result))
    return found


def ref_of(flow: str, leaf: Leaf) -> JobRef:
    """The job whose result a leaf stands for."""
    return JobRef(leaf.queue, job_id(flow, leaf.key, leaf.round))
