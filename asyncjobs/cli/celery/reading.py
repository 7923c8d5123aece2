"""Walks through the modules of a code base, and notes each use of Celery."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from asyncjobs.cli.celery.files import Skipped
from asyncjobs.cli.celery.names import Binding, Module, Thing, local_bindings
from asyncjobs.cli.celery.notes import Notes
from asyncjobs.cli.celery.project import Project, decorated, instance, is_task_class
from asyncjobs.cli.celery.rule import RULES
from asyncjobs.cli.celery.settings import (
    pairs_of,
    setting_name,
    settings_of,
    sources_of_settings,
)
from asyncjobs.cli.celery.sighting import Sighting, with_value

__all__ = ["read"]

_WAITS: Final = frozenset({"get", "wait", "join", "join_native"})
_WITH_OPTIONS: Final = frozenset(
    {"apply_async", "set", "signature", "subtask", "send_task", "retry", "apply"}
)
_PROXIES: Final = ("current_app", "current_task")
"""What is asked of these two is asked of an app and of a task."""
_OF_DICTS: Final = frozenset(
    {"update", "setdefault", "get", "pop", "keys", "items", "values", "copy", "table", "humanize"}
    | {"find_value_for_key", "without_defaults", "changes", "defaults"}
)
"""Methods of `app.conf`, which are no settings."""
_UNSURE: Final = ("", "foreign", "bound")
"""What may be a task although nothing says so."""


def read(project: Project) -> tuple[list[Sighting], list[Skipped]]:
    """Each use of Celery in the code base, in the order of files and lines; and files that could
    not be walked through."""
    sources = sources_of_settings(project)
    found: dict[Sighting, None] = {}
    skipped: list[Skipped] = []
    uses_celery = any(_imports_celery(module) for module in project.modules.values())
    for module in project.modules.values():
        notes = Notes(module.source.path)
        reader = _Reader(project, module, notes, is_unsure=uses_celery)
        try:
            reader.visit(module.source.tree)
        except RecursionError:
            skipped.append(Skipped(module.source.path, "nested too deeply"))
            continue
        found |= dict.fromkeys(notes.found)
        if uses_celery:
            found |= dict.fromkeys(settings_of(module, sources))
    uses = sorted(found, key=lambda each: (each.path, each.line, each.kind, each.names))
    return uses, skipped


def _imports_celery(module: Module) -> bool:
    for node in ast.walk(module.source.tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        if any(name.partition(".")[0] == "celery" for name in names):
            return True
    return False


class _Reader(ast.NodeVisitor):
    """Walks through one module."""

    def __init__(self, project: Project, module: Module, notes: Notes, *, is_unsure: bool) -> None:
        """`is_unsure`: also note `x.delay()` if nobody knows what x is."""
        self._notes = notes
        self._project = project
        self._module = module
        self._is_unsure = is_unsure
        self._scopes: list[Mapping[str, Sequence[Binding | Thing]]] = []
        self._task_classes: list[bool] = []

    def _rules_of_calls(self) -> frozenset[str]:
        """Methods of results whose calls are noted by a rule of their own, inside of a task."""
        if self._notes.tasks:
            return _WAITS
        return frozenset()

    def _thing(self, node: ast.expr) -> Thing | None:
        return self._project.thing(node, self._module, self._scopes)

    # ── functions and classes ────────────────────────────────────────────────────────

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._function(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._function(node)

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self._notes.where.append(node.name)
        is_task = False
        is_bound = False
        # Other decorators may be signals, which are uses of their own.
        for decorator, (function, options) in zip(
            node.decorator_list, decorated(node), strict=True
        ):
            kind = self._project.task_kind(function, self._module, self._scopes)
            if kind is None:
                self.visit(decorator)
                continue
            is_task = True
            is_bound = is_bound or _is_bound(options)
            self._note_task(node, kind, options, is_bound=is_bound)
        # `self` of a method of a class of tasks is a task, too.
        in_class = bool(self._task_classes)
        # The parameters last: an assignment to one of them rarely changes what it is.
        scope: dict[str, Sequence[Binding | Thing]] = dict(local_bindings(self._module, node))
        scope |= self._parameters(node, is_bound=is_bound or (in_class and self._task_classes[-1]))
        self._scopes.append(scope)
        self._task_classes.append(False)
        self._notes.tasks += is_task
        for part in (node.args, *node.body):
            self.visit(part)
        self._notes.tasks -= is_task
        self._task_classes.pop()
        self._scopes.pop()
        self._notes.where.pop()

    def _note_task(
        self,
        node: ast.FunctionDef | ast.AsyncFunctionDef,
        kind: str,
        options: list[ast.keyword],
        *,
        is_bound: bool,
    ) -> None:
        form = "plain"
        if kind == "periodic":
            form = "periodic"
        elif self._task_classes and not self._scopes:
            form = "method"
        elif self._scopes:
            form = "nested"
        elif is_bound:
            form = "bound"
        self._notes.add("task", form, node)
        for option in options:
            if option.arg is not None and not (option.arg == "bind" and is_bound):
                self._notes.add("task-option", with_value(option.arg, option.value), option.value)
                self.visit(option.value)

    def _parameters(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, *, is_bound: bool
    ) -> dict[str, Sequence[Thing]]:
        """What is known of the parameters: their annotations, and `self` of a bound task."""
        known: dict[str, Sequence[Thing]] = {}
        for parameter in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs):
            thing = None
            if parameter.annotation is not None:
                thing = instance(self._thing(parameter.annotation))
            known[parameter.arg] = [thing] if thing is not None else []
        names = [*node.args.posonlyargs, *node.args.args]
        if is_bound and names:
            known[names[0].arg] = [Thing("bound")]
        return known

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._notes.where.append(node.name)
        is_task = is_task_class(self._project, node, self._module)
        if is_task:
            self._notes.add("task", "class", node)
        self._task_classes.append(is_task)
        for part in (*node.decorator_list, *node.bases, *node.keywords):
            # The base of a class of tasks is said by the class itself.
            if not is_task:
                self.visit(part)
        for statement in node.body:
            if is_task:
                self._of_task_class(statement)
            self.visit(statement)
        self._task_classes.pop()
        self._notes.where.pop()

    def _of_task_class(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef) and RULES.knows("task-method", node.name):
            self._notes.add("task-method", node.name, node)
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and RULES.knows("task-option", target.id):
                    self._notes.add("task-option", with_value(target.id, node.value), node)

    # ── imports and names ────────────────────────────────────────────────────────────

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._notes.package(alias.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.level:
            return
        self._notes.package(node.module or "", node)
        for alias in node.names:
            if node.module == "celery" and alias.name in _PROXIES:
                self._notes.add("name", alias.name, node)

    def visit_Global(self, node: ast.Global) -> None:
        if self._notes.tasks:
            self._notes.add("inside", "global", node)

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self._notes.name(self._thing(node), node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        thing = self._thing(node)
        if self._notes.name(thing, node):
            return
        owner = self._thing(node.value)
        if owner == Thing("conf") and node.attr not in _OF_DICTS:
            self._notes.add("setting", setting_name(node.attr) or node.attr, node)
        elif owner == Thing("app"):
            self._notes.known("app", node.attr, node)
        elif owner == Thing("celery", "celery") and node.attr in _PROXIES:
            self._notes.add("name", node.attr, node)
        elif owner is not None and owner.kind in ("bound", "request"):
            self._notes.of_self(owner, node)
        elif owner == Thing("result") and node.attr not in self._rules_of_calls():
            self._notes.known("result", node.attr, node)
        # `self.request.id` is one use, and `self.request` in it no second one.
        if owner != Thing("request"):
            self.visit(node.value)

    # ── calls ────────────────────────────────────────────────────────────────────────

    def visit_BinOp(self, node: ast.BinOp) -> None:
        if isinstance(node.op, ast.BitOr) and self._thing(node) == Thing("signature"):
            self._notes.add("canvas", "|", node)
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        thing = self._thing(node.func)
        if thing == Thing("celery", "celery.Celery"):
            self._notes.constructor(node)
        if (
            thing is not None
            and thing.kind == "celery"
            and thing.name
            in (
                "celery.signature",
                "celery.subtask",
            )
        ):
            self._notes.options(node)
        if isinstance(node.func, ast.Attribute):
            self._method(node, node.func)
        self._settings_in(node)
        self.generic_visit(node)

    def _method(self, node: ast.Call, function: ast.Attribute) -> None:
        owner = self._thing(function.value)
        method = function.attr
        kind = owner.kind if owner is not None else ""
        if owner == Thing("app") and method == "send_task":
            self._notes.options(node)
        elif owner == Thing("conf") and method == "update":
            for argument in node.args:
                self._notes.settings(pairs_of(argument))
            self._notes.settings(pairs_of(ast.Call(function, [], node.keywords)))
        elif kind in ("control", "inspect"):
            self._notes.add(kind, method, node)
        # A wait in a task holds a slot, and outside of one it does not.
        elif kind == "result" and self._notes.tasks and method in _WAITS:
            self._notes.add("result", f"{method}=in-task", node)
        elif kind in ("task", "signature") and RULES.knows("call", method):
            self._notes.add("call", method, node)
            if method in _WITH_OPTIONS:
                self._notes.options(node)
        elif method in ("delay", "apply_async") and self._is_unsure and kind in _UNSURE:
            self._notes.add("call", method, node, certain=kind == "bound")
            self._notes.options(node)

    # ── settings that stand in calls and dicts ───────────────────────────────────────

    def visit_Assign(self, node: ast.Assign) -> None:
        for target in node.targets:
            name = ""
            if isinstance(target, ast.Name):
                name = target.id
            elif isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                name = str(target.slice.value)
                if self._thing(target.value) == Thing("conf"):
                    self._notes.settings([(name, node.value, node.lineno)])
            # Not as a name that is read: its value decides which rule counts.
            elif isinstance(target, ast.Attribute) and self._thing(target.value) == Thing("conf"):
                self._notes.settings([(target.attr, node.value, node.lineno)])
                self.visit(node.value)
                return
            if name in ("CELERY", "CELERY_CONFIG"):
                self._notes.settings(pairs_of(node.value))
            if name == "INSTALLED_APPS":
                self._notes.installed(node.value)
        self.generic_visit(node)

    def _settings_in(self, node: ast.Call) -> None:
        for keyword in node.keywords:
            if keyword.arg in ("CELERY", "CELERY_CONFIG"):
                self._notes.settings(pairs_of(keyword.value))


def _is_bound(options: Iterable[ast.keyword]) -> bool:
    return any(
        option.arg == "bind"
        and isinstance(option.value, ast.Constant)
        and option.value.value is True
        for option in options
    )
