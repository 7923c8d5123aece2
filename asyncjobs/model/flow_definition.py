"""What is stored with a flow and with each of its nodes, for people and for a retry.

The store reads none of it. A node is kept as a line of JSON and its envelope, so a retry can make
its job anew when nothing else is left of it. All of it is untrusted when it is read back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from asyncjobs.model.codec import BadRecord, read_fields, to_json
from asyncjobs.model.terms import OnFailure

__all__ = [
    "FlowDefinition",
    "NodeDefinition",
    "Parents",
    "names_in",
]

Parents: TypeAlias = tuple[tuple[str, OnFailure], ...]
"""The keys of the nodes that a node waits for, and what happens when one of them fails."""

MOST_PARENTS: Final = 100_000
_LETTERS: Final[dict[OnFailure, str]] = {"cancel": "c", "run": "r", "skip": "s"}
_ON_FAILURE: Final[dict[str, OnFailure]] = {"c": "cancel", "r": "run", "s": "skip"}


class FlowDefinition(NamedTuple):
    """`result`: lists and dicts of names of nodes, whose results are that of the flow. `ends`: the
    nodes that nothing waits for. `kind`: `flow` or `batch`."""

    result: Any
    ends: tuple[str, ...]
    context: dict[str, Any]
    kind: str = "flow"

    def encode(self) -> bytes:
        fields = {"v": 1, "k": self.kind, "r": _stored(self.result), "e": self.ends}
        if self.context:
            fields["c"] = self.context
        return to_json(fields)

    @classmethod
    def decode(cls, raw: bytes) -> FlowDefinition:
        """Raises BadRecord."""
        match read_fields(raw):
            case {"v": 1, "k": str(kind), "r": result, "e": list(ends), **rest} if all(
                isinstance(end, str) for end in ends
            ):
                context = rest.get("c", {})
                if isinstance(context, dict):
                    return cls(_read(result), tuple(ends), context, kind)
        raise BadRecord("it is no definition of a flow that this release can read")


def _stored(result: Any) -> Any:
    if isinstance(result, dict):
        # Marked, so that a later release may add other kinds of values.
        return {"m": {name: _stored(each) for name, each in result.items()}}
    if isinstance(result, list):
        return [_stored(each) for each in result]
    return result


def _read(stored: Any) -> Any:
    match stored:
        case {"m": dict(named)}:
            return {name: _read(each) for name, each in named.items()}
        case list():
            return [_read(each) for each in stored]
        case str() | None:
            return stored
    raise BadRecord("the result of its definition cannot be read")


def names_in(result: Any) -> Iterator[str]:
    """The names of the nodes that the result of a flow is made of."""
    if isinstance(result, dict):
        for each in result.values():
            yield from names_in(each)
    elif isinstance(result, list):
        for each in result:
            yield from names_in(each)
    elif result is not None:
        yield result


class NodeDefinition(NamedTuple):
    """How to make the job of a node anew.

    `key`: its number in the flow; that of a node which another one has added begins with the key
    of that one. `is_end`: nothing of what was added together with it waits for it.
    """

    key: str
    function: str
    priority: int
    delay_ms: int
    parents: Parents
    is_end: bool
    envelope: bytes

    @property
    def added_by(self) -> str:
        """The key of the node that has added it while it ran; '' for one of the flow itself."""
        return self.key.rpartition(".")[0]

    def encode(self) -> bytes:
        fields = {
            "k": self.key,
            "f": self.function,
            "y": self.priority,
            "p": list(_runs(self.parents)),
        }
        if self.delay_ms:
            fields["d"] = self.delay_ms
        if self.is_end:
            fields["e"] = 1
        return to_json(fields) + b"\n" + self.envelope

    @classmethod
    def decode(cls, raw: bytes) -> NodeDefinition:
        """Raises BadRecord."""
        # JSON writes a line break in a text as `\n`, so the first real one ends the fields.
        head, _, envelope = raw.partition(b"\n")
        match read_fields(head):
            case {
                "k": str(key),
                "f": str(function),
                "y": 0 | 1 | 2 | 3 as priority,
                "p": list(parents),
                **rest,
            } if key:
                # Most nodes run when those before them have ended.
                delay_ms = rest.get("d", 0)
                if type(delay_ms) is int and delay_ms >= 0:
                    found = tuple(_parents(parents))
                    is_end = "e" in rest
                    return cls(key, function, priority, delay_ms, found, is_end, envelope)
        raise BadRecord("it is no definition of a node that this release can read")


def _runs(parents: Iterable[tuple[str, OnFailure]]) -> Iterator[list[Any]]:
    """The parents, with those whose numbers follow each other in one entry."""
    run: list[Any] | None = None
    for key, on_failure in parents:
        base, dot, number = key.rpartition(".")
        base += dot
        letter = _LETTERS[on_failure]
        # One node may wait for ten thousand others, and many nodes for the same ones.
        if run is not None and [base, letter] == [run[0], run[3]] and int(number) == sum(run[1:3]):
            run[2] += 1
            continue
        if run is not None:
            yield run
        run = [base, int(number), 1, letter]
    if run is not None:
        yield run


def _parents(stored: Sequence[Any]) -> Iterator[tuple[str, OnFailure]]:
    left = MOST_PARENTS
    for entry in stored:
        match entry:
            case [str(base), int(first), int(many), ("c" | "r" | "s") as letter] if (
                first >= 0 and 0 < many <= left
            ):
                left -= many
                for number in range(first, first + many):
                    yield f"{base}{number}", _ON_FAILURE[letter]
            case _:
                raise BadRecord("the parents of a node cannot be read")
