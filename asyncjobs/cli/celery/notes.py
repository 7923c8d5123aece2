"""Notes the uses of one module, by kind and name."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Final

from asyncjobs.cli.celery.names import Thing
from asyncjobs.cli.celery.project import AROUND
from asyncjobs.cli.celery.rule import RULES
from asyncjobs.cli.celery.settings import CONSTRUCTOR, setting_name
from asyncjobs.cli.celery.sighting import Sighting, with_value

__all__ = ["Notes"]

_CANVAS: Final = frozenset(
    {"chain", "group", "chord", "signature", "subtask", "maybe_signature", "chunks", "xmap"}
    | {"xstarmap", "Signature", "StampingVisitor", "GroupStampingVisitor"}
)


class Notes:
    """What was found in a module so far.

    `where` has the names of the functions and classes around the place, the innermost last.
    `tasks` says in how many tasks it stands.
    """

    def __init__(self, path: str) -> None:
        self.found: list[Sighting] = []
        self.where: list[str] = []
        self.tasks = 0
        self._path = path

    def add(
        self, kind: str, names: str | Iterable[str], node: ast.AST, *, certain: bool = True
    ) -> None:
        """Note one use. The first of `names` for which there is a rule counts."""
        if isinstance(names, str):
            names = (names,)
        line = getattr(node, "lineno", 1)
        where = ".".join(self.where)
        path = self._path
        self.found.append(Sighting(kind, tuple(names), path, line, where, certain))

    def known(self, kind: str, name: str, node: ast.AST) -> None:
        """Note it if a rule names it: the code base may have put a name of its own there."""
        if RULES.knows(kind, name):
            self.add(kind, name, node)

    def package(self, name: str, node: ast.AST) -> None:
        """Note a package around Celery."""
        root = name.partition(".")[0]
        # Names of these two are noted where they are used.
        if root in ("celery", "kombu"):
            return
        for known in (name, root):
            if RULES.knows("package", known):
                self.add("package", known, node)
                return

    def name(self, thing: Thing | None, node: ast.expr) -> bool:
        """Note a name of Celery itself. Returns whether it is one."""
        if thing is None or thing.kind not in ("celery", "foreign"):
            return False
        root, _, rest = thing.name.partition(".")
        if thing.kind == "foreign":
            # What is right in a program of its own may be wrong in a process with many jobs.
            if self.tasks and RULES.knows("inside", thing.name):
                self.add("inside", thing.name, node)
            return False
        if root == "celery" and rest:
            # A signal has methods and a flow has arguments: the name of the thing itself counts.
            kind, dot, last = rest.partition(".")
            if kind == "signals" and dot:
                self.add("signal", last.partition(".")[0], node)
            elif kind in _CANVAS:
                self.add("canvas", kind, node)
            # A module alone says nothing: what is taken from it has a rule.
            elif rest not in ("signals", "exceptions", "states", "result", "schedules", "canvas"):
                self.add("name", rest, node)
        elif root in AROUND and rest:
            self.add("package", (thing.name, root), node)
        return True

    def of_self(self, owner: Thing, node: ast.Attribute) -> None:
        """Note what a bound task asks itself, or its request."""
        name = node.attr
        if owner.kind == "request":
            name = f"request.{node.attr}"
        self.known("self", name, node)

    def options(self, node: ast.Call) -> None:
        """Note the options of a call that enqueues."""
        for option in node.keywords:
            # What is passed on by ** is not known, and `name` and `exc` belong to the call itself.
            if option.arg not in (None, "args", "kwargs", "name", "exc", "throw"):
                names = with_value(str(option.arg), option.value)
                self.add("call-option", names, option.value)

    def constructor(self, node: ast.Call) -> None:
        """Note the arguments of `Celery(...)` that are settings."""
        for option in node.keywords:
            name = CONSTRUCTOR.get(option.arg or "")
            if name is not None:
                kind = "app" if RULES.knows("app", name) else "setting"
                self.add(kind, name, option.value)

    def settings(self, pairs: Iterable[tuple[str, ast.expr, int]]) -> None:
        """Note settings by names, values and lines. Here the name alone says that it is one."""
        for name, value, line in pairs:
            names = with_value(setting_name(name) or name.lower(), value)
            # Any node will do for the line.
            self.add("setting", names, ast.Pass(lineno=line))

    def installed(self, node: ast.expr) -> None:
        """Note the packages in Django's list of apps."""
        for each in ast.walk(node):
            if isinstance(each, ast.Constant) and isinstance(each.value, str):
                self.package(each.value, each)
