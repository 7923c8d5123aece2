"""All modules of a code base, and what their expressions stand for."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from asyncjobs.cli.celery.files import SourceFile
from asyncjobs.cli.celery.names import (
    Binding,
    Imported,
    Module,
    Thing,
    canonical,
    local_bindings,
)

__all__ = ["AROUND", "Project", "Scopes", "decorated", "instance", "is_task_class"]

Scopes = Sequence[Mapping[str, Sequence[Binding | Thing]]]
"""The names of the functions around an expression, the innermost last."""

AROUND: Final = ("celery", "kombu", "amqp", "vine", "billiard", "flower", "redbeat")
"""Packages whose names are looked up in the rules, besides those that begin with `celery_` and
`django_celery_`."""
_DOT: Final = re.compile(r"\.")
_DEEPEST: Final = 30
"""How many names may lead to one another: a name may be assigned to itself."""
_SIGNATURES: Final = frozenset(
    f"celery.{name}"
    for name in (
        *("chain", "group", "chord", "signature", "subtask", "Signature", "chunks"),
        *("xmap", "xstarmap", "maybe_signature"),
    )
)
_RESULTS: Final = frozenset({"delay", "apply_async", "send_task", "AsyncResult", "GroupResult"})
_MADE: Final = {
    "s": "signature",
    "si": "signature",
    "signature": "signature",
    "subtask": "signature",
    "map": "signature",
    "starmap": "signature",
    "chunks": "signature",
    "clone": "signature",
    "set": "signature",
}
_INSTANCES: Final = {
    "celery.Celery": "app",
    "celery.current_app": "app",
    "celery.Task": "bound",
    "celery.current_task": "bound",
    "celery.Signature": "signature",
    "celery.result.AsyncResult": "result",
    "celery.result.GroupResult": "result",
    "celery.result.ResultSet": "result",
    "celery.result.EagerResult": "result",
    "celery.control.Control": "control",
    "celery.control.Inspect": "inspect",
    "celery.task.control": "control",
}
"""What a call of a name, or a parameter with this annotation, stands for."""


def decorated(
    node: ast.FunctionDef | ast.AsyncFunctionDef,
) -> list[tuple[ast.expr, list[ast.keyword]]]:
    """The decorators of a function, each with the options that it is called with."""
    found = []
    for decorator in node.decorator_list:
        if isinstance(decorator, ast.Call):
            found.append((decorator.func, decorator.keywords))
        else:
            found.append((decorator, []))
    return found


class Project:
    """The modules of a code base by their dotted names."""

    def __init__(self, sources: Iterable[SourceFile]) -> None:
        self.modules = {source.name: Module(source) for source in sources}
        self._by_end: dict[str, Module] = {}
        self._known: dict[int, Thing | None] = {}
        # Their root may be a folder below the path that was given, such as src/.
        for name, module in sorted(self.modules.items(), key=lambda item: -item[0].count(".")):
            parts = name.split(".")
            for start in range(1, len(parts)):
                self._by_end[".".join(parts[start:])] = module
        self._packages = {
            name[: end.start()]
            for name in (*self.modules, *self._by_end)
            for end in _DOT.finditer(name)
            if name.partition(".")[0] not in AROUND
        }

    def module(self, name: str) -> Module | None:
        """The module with this name, whatever folder the code base has on its path."""
        if name.startswith("."):
            return self.modules.get(name[1:])
        # Many code bases have a module `celery`, and mean the package when they import it.
        if name.partition(".")[0] in AROUND:
            return None
        return self.modules.get(name) or self._by_end.get(name)

    def task_kind(self, node: ast.expr, module: Module, scopes: Scopes = ()) -> str | None:
        """`task` or `periodic` for a decorator that makes tasks; None for any other."""
        thing = self.thing(node, module, scopes)
        is_method = isinstance(node, ast.Attribute) and node.attr == "task"
        if (thing is None or thing.kind == "foreign") and is_method:
            # An app that a function or another library makes: its name says what it is.
            owner = ast.unparse(node).split(".")[-2].lower()
            if "celery" in owner:
                return "task"
        if thing is None:
            return None
        if thing.name in ("celery.shared_task", "celery.task.task", "celery.decorators.task"):
            return "task"
        if thing == Thing("app", "task"):
            return "task"
        if thing.name == "celery.task.periodic_task":
            return "periodic"
        return None

    def thing(
        self, node: ast.expr, module: Module, scopes: Scopes = (), depth: int = 0
    ) -> Thing | None:
        """What an expression stands for; None if that cannot be known."""
        if depth > _DEEPEST:
            return None
        # A long chain of calls would be walked through again from each of its links. And a name
        # that is assigned to itself finds None here.
        if id(node) not in self._known:
            self._known[id(node)] = None
            self._known[id(node)] = self._new_thing(node, module, scopes, depth)
        return self._known[id(node)]

    def _new_thing(
        self, node: ast.expr, module: Module, scopes: Scopes, depth: int
    ) -> Thing | None:
        if isinstance(node, ast.Name):
            return self._name(node.id, module, scopes, depth)
        if isinstance(node, ast.Attribute):
            owner = self.thing(node.value, module, scopes, depth + 1)
            return self._attribute(owner, node.attr, depth)
        if isinstance(node, ast.Call):
            return self._call(node, module, scopes, depth)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            for side in (node.left, node.right):
                if self.thing(side, module, scopes, depth + 1) == Thing("signature"):
                    return Thing("signature")
        if isinstance(node, ast.Subscript):
            owner = self.thing(node.value, module, scopes, depth + 1)
            if owner == Thing("app", "tasks"):
                return Thing("task")
        if isinstance(node, ast.Await):
            return self.thing(node.value, module, scopes, depth + 1)
        return None

    def _name(self, name: str, module: Module, scopes: Scopes, depth: int) -> Thing | None:
        for scope in reversed(scopes):
            if name in scope:
                return self._first(scope[name], module, scopes, depth)
        if name in module.bindings:
            found = self._first(module.bindings[name], module, (), depth)
            if found is not None or name not in module.apps:
                return found
            return Thing("app")
        for star in module.stars:
            found = self._of_module(star, name, depth)
            # A package that cannot be read may have any name. The next star may be the right one.
            if found is not None and found.kind != "foreign":
                return found
        return None

    def _first(
        self, bindings: Sequence[Binding | Thing], module: Module, scopes: Scopes, depth: int
    ) -> Thing | None:
        """What the first of them that is known stands for: `try` may import from two places."""
        # An assignment in a branch that is not taken here may be the one that counts there.
        for binding in bindings:
            thing = self._bound(binding, module, scopes, depth + 1)
            if thing is not None:
                return thing
        return None

    def _bound(
        self, binding: Binding | Thing, module: Module, scopes: Scopes, depth: int
    ) -> Thing | None:
        if isinstance(binding, Thing):
            return binding
        if isinstance(binding, Imported):
            if binding.attribute is None:
                return self._module_thing(binding.module)
            return self._of_module(binding.module, binding.attribute, depth)
        if isinstance(binding, ast.FunctionDef | ast.AsyncFunctionDef):
            return self._function(binding, module, depth)
        if isinstance(binding, ast.ClassDef):
            return Thing("known", binding.name)
        return self.thing(binding, module, scopes, depth)

    def _function(
        self, node: ast.FunctionDef | ast.AsyncFunctionDef, module: Module, depth: int
    ) -> Thing | None:
        """A task, or any other function of the code base."""
        if depth > _DEEPEST:
            return None
        if any(self.task_kind(func, module) for func, _ in decorated(node)):
            return Thing("task", f"{module.name}.{node.name}")
        return Thing("known", node.name)

    def _module_thing(self, name: str) -> Thing:
        if self.module(name) is not None or name in self._packages:
            return Thing("module", name)
        return _outside(name)

    def _of_module(self, module_name: str, name: str, depth: int) -> Thing | None:
        if depth > _DEEPEST:
            return None
        module = self.module(module_name)
        if module is not None:
            found = self._name(name, module, (), depth + 1)
            if found is not None:
                return found
        full = f"{module_name.removesuffix('.')}.{name}"
        if self.module(full) is not None:
            return Thing("module", full)
        # Of a module that was read, all names are known.
        if module is not None:
            return None
        return _outside(full)

    def _attribute(self, owner: Thing | None, name: str, depth: int) -> Thing | None:
        if owner is None:
            return None
        if owner.kind == "module":
            return self._of_module(owner.name, name, depth + 1)
        if owner.kind == "celery":
            return _celery_thing(f"{owner.name}.{name}")
        if owner.kind == "foreign":
            return _outside(f"{owner.name}.{name}")
        if owner == Thing("app"):
            # These two have names of their own below them.
            if name in ("conf", "control"):
                return Thing(name)
            return Thing("app", name)
        if owner.kind == "bound" and name == "request":
            return Thing("request")
        if owner.kind == "bound" and name == "app":
            return Thing("app")
        return None

    def _call(self, node: ast.Call, module: Module, scopes: Scopes, depth: int) -> Thing | None:
        """What a call returns."""
        function = self.thing(node.func, module, scopes, depth + 1)
        if function is not None:
            if function.kind == "celery" and function.name in _SIGNATURES:
                return Thing("signature")
            if function.kind == "celery" and function.name in _INSTANCES:
                return Thing(_INSTANCES[function.name])
            if function == Thing("app", "signature"):
                return Thing("signature")
            if function.kind == "app" and function.name in _RESULTS:
                return Thing("result")
        if not isinstance(node.func, ast.Attribute):
            return self._made_by(node, module, depth)
        owner = self.thing(node.func.value, module, scopes, depth + 1)
        method = node.func.attr
        if owner is None:
            # Nothing else has methods of this name that are as common.
            return Thing("result") if method == "apply_async" else None
        if owner.kind in ("task", "bound", "signature"):
            if method in _RESULTS:
                return Thing("result")
            if method in _MADE:
                return Thing(_MADE[method])
        if owner.kind == "control" and method == "inspect":
            return Thing("inspect")
        return None

    def definition(
        self, node: ast.expr, module: Module, depth: int = 0
    ) -> tuple[ast.FunctionDef | ast.ClassDef, Module] | None:
        """The `def` or `class` of a name of the code base, with its module."""
        if not isinstance(node, ast.Name) or depth > _DEEPEST:
            return None
        for binding in module.bindings.get(node.id, []):
            if isinstance(binding, ast.FunctionDef | ast.ClassDef):
                return binding, module
            if isinstance(binding, Imported) and binding.attribute is not None:
                home = self.module(binding.module)
                if home is not None:
                    return self.definition(ast.Name(binding.attribute), home, depth + 1)
        return None

    def _made_by(self, node: ast.Call, module: Module, depth: int) -> Thing | None:
        """The app that a function of the code base returns, or an instance of a class of apps."""
        found = self.definition(node.func, module)
        if found is None or depth > _DEEPEST:
            return None
        made, home = found
        if isinstance(made, ast.FunctionDef):
            return self._returned(made, home, depth + 1)
        for base in made.bases:
            thing = instance(self.thing(base, home, (), depth + 1))
            if thing is not None:
                return thing
        return Thing("known", made.name)

    def _returned(self, function: ast.FunctionDef, module: Module, depth: int) -> Thing | None:
        scope = local_bindings(module, function)
        for node in ast.walk(function):
            if isinstance(node, ast.Return) and node.value is not None:
                found = self.thing(node.value, module, [scope], depth + 1)
                if found == Thing("app"):
                    return found
        return None


def is_task_class(project: Project, node: ast.ClassDef, module: Module, depth: int = 0) -> bool:
    """Whether a class is one of Celery's tasks, however many classes stand between."""
    if depth > _DEEPEST:
        return False
    for base in node.bases:
        thing = project.thing(base, module)
        if thing is not None and thing.name in ("celery.Task", "celery.task.Task", "Task"):
            return True
        found = project.definition(base, module)
        if found is None or not isinstance(found[0], ast.ClassDef):
            continue
        if is_task_class(project, found[0], found[1], depth + 1):
            return True
    return False


def instance(thing: Thing | None) -> Thing | None:
    """What an object of this class of Celery stands for."""
    if thing is None or thing.kind != "celery" or thing.name not in _INSTANCES:
        return None
    return Thing(_INSTANCES[thing.name])


def _outside(name: str) -> Thing:
    """A name that is imported from elsewhere."""
    root = name.partition(".")[0]
    if root in AROUND or root.startswith(("celery_", "django_celery_")):
        return _celery_thing(canonical(name))
    # Packages that have a part for Celery, and much else.
    for package in ("sentry_sdk.integrations.celery", "opentelemetry.instrumentation.celery"):
        if name.startswith(package):
            return Thing("celery", package)
    return Thing("foreign", name)


def _celery_thing(name: str) -> Thing:
    name = canonical(name)
    # These two are objects and not classes: what is asked of them is asked of an app or a task.
    if name == "celery.current_app":
        return Thing("app")
    if name == "celery.current_task":
        return Thing("bound")
    return Thing("celery", name)
