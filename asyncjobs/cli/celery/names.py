"""What each name of a module stands for, as far as it can be known without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from asyncjobs.cli.celery.files import SourceFile

__all__ = ["Imported", "Module", "Thing", "canonical", "local_bindings"]


class Thing(NamedTuple):
    """What an expression stands for.

    kind: `celery` (a name of Celery or of a package around it), `app`, `task`, `bound` (the `self`
    of a task), `request`, `signature`, `result`, `control`, `inspect`, `conf`, `module`, or
    `foreign`.
    name: its dotted name; empty where the kind says all.
    """

    kind: str
    name: str = ""


class Imported(NamedTuple):
    """A name that an import brings: `attribute` of `module`, or the module itself.

    A module with a dot in front is one of the code base, by its full name.
    """

    module: str
    attribute: str | None


Binding = ast.expr | ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | Imported

_HOMES: Final = {
    "celery.canvas": "celery",
    "celery.app.task": "celery",
    "celery.app.base": "celery",
    "celery.app.control": "celery.control",
    "celery._state": "celery",
    "celery.app.shared_task": "celery.shared_task",
    "celery.app.Celery": "celery.Celery",
    "celery.execute": "celery",
}
"""Modules whose names belong to a shorter one, too."""


def canonical(name: str) -> str:
    """The shortest name of something of Celery."""
    head, _, last = name.rpartition(".")
    if name in _HOMES:
        return _HOMES[name]
    if head in _HOMES:
        return f"{_HOMES[head]}.{last}"
    return name


class Module:
    """The names of one source file.

    `stars` are the modules of which it imports all names. `apps` are names on which it calls what
    only an app of Celery has, however the app is made.
    """

    def __init__(self, source: SourceFile) -> None:
        self.source = source
        self.name = source.name
        self.is_package = source.path.endswith("__init__.py")
        self.stars: list[str] = []
        self.bindings: dict[str, list[Binding]] = {}
        self.apps = _configured(source.tree)
        for name, binding in self._found(source.tree.body):
            self.bindings.setdefault(name, []).append(binding)

    def _found(self, body: Iterable[ast.stmt]) -> Iterator[tuple[str, Binding]]:
        for node in body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                yield from self.imported(node)
                continue
            yield from _bound_by(node)
            for inner in _blocks(node):
                yield from self._found(inner)

    def imported(self, node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, Imported]]:
        """The names that an import brings."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.asname is not None:
                    yield alias.asname, Imported(alias.name, None)
                else:
                    first = alias.name.partition(".")[0]
                    yield first, Imported(first, None)
            return
        module = self._absolute(node)
        for alias in node.names:
            if alias.name == "*":
                self.stars.append(module)
            else:
                yield alias.asname or alias.name, Imported(module, alias.name)

    def _absolute(self, node: ast.ImportFrom) -> str:
        """The full name of the module; that of an import with dots begins with one dot."""
        if not node.level:
            return node.module or ""
        # In a package, one dot is the package itself, and in a module the package around it.
        parts = self.name.split(".")
        if not self.is_package:
            parts.pop()
        parts = parts[: len(parts) - (node.level - 1)]
        # With a dot in front: a module `celery` of their own is not Celery.
        return "." + ".".join([*parts, *filter(None, [node.module])])


def _configured(tree: ast.Module) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.attr in ("config_from_object", "autodiscover_tasks"):
            found.add(node.value.id)
    return found


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """The statements inside of a statement that has no names of its own."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return
    for field in ("body", "orelse", "finalbody"):
        yield getattr(node, field, [])
    for handler in getattr(node, "handlers", []):
        yield handler.body


def _bound_by(node: ast.stmt) -> Iterator[tuple[str, Binding]]:
    """The names that one statement binds, without those of its blocks."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name, node
    elif isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
        yield node.target.id, node.value
    elif isinstance(node, ast.With | ast.AsyncWith):
        for item in node.items:
            if isinstance(item.optional_vars, ast.Name):
                yield item.optional_vars.id, item.context_expr


def local_bindings(
    module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> dict[str, list[Binding]]:
    """The names that a function binds in its body."""
    found: dict[str, list[Binding]] = {}
    # Functions inside of it have names of their own.
    pending = list(function.body)
    while pending:
        node = pending.pop(0)
        names: Iterable[tuple[str, Binding]] = _bound_by(node)
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = module.imported(node)
        for name, binding in names:
            found.setdefault(name, []).append(binding)
        for inner in _blocks(node):
            pending += inner
    return found
