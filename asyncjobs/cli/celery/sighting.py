"""Where a code base uses something of Celery."""

from __future__ import annotations

import ast
from typing import NamedTuple

__all__ = ["Sighting", "with_value"]


class Sighting(NamedTuple):
    """One use of Celery.

    kind: which use, as in the rules.
    names: what is used; the first name for which there is a rule counts.
    path: the file, below the path that was given.
    line: the line in it, from 1.
    where: the function or class around it; empty at the level of the module.
    certain: False if the name could not be followed to Celery.
    """

    kind: str
    names: tuple[str, ...]
    path: str
    line: int
    where: str = ""
    certain: bool = True

    @property
    def name(self) -> str:
        """What is used, without a value."""
        return self.names[0].partition("=")[0]


def with_value(name: str, node: ast.expr | None) -> tuple[str, ...]:
    """The name with its value, if a rule may depend on that, and the name alone.

    Only True, False and json are compared: values may be secrets, so no other one leaves the tree.
    """
    # A value that a rule names is no secret.
    if isinstance(node, ast.Constant) and (node.value is True or node.value is False):
        return f"{name}={node.value}", name
    parts = [node]
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        parts = list(node.elts)
    if parts and all(_is_json(part) for part in parts):
        return f"{name}=json", name
    return (name,)


def _is_json(node: ast.expr | None) -> bool:
    return isinstance(node, ast.Constant) and node.value in ("json", "application/json")
