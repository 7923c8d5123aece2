"""Reads settings of Celery, wherever a code base may write them."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from typing import Final

from asyncjobs.cli.celery.names import Module, Thing
from asyncjobs.cli.celery.project import Project
from asyncjobs.cli.celery.rule import OLD_NAMES, RULES
from asyncjobs.cli.celery.sighting import Sighting, with_value

__all__ = ["CONSTRUCTOR", "pairs_of", "setting_name", "settings_of", "sources_of_settings"]

_NAMESPACES: Final = {
    "celerybeat_": "beat_",
    "celeryd_": "worker_",
    "celery_task_": "task_",
    "celery_": "",
    # After the one before it: most settings of tasks had nothing else in front.
    "celery": "task",
}
"""What stands before a setting in Django, and in releases before 4."""
_CONFIG_MODULES: Final = ("celeryconfig", "celery_config")
CONSTRUCTOR: Final = {
    "broker": "broker_url",
    "backend": "result_backend",
    "include": "include",
    "config_source": "config_from_object",
    "task_cls": "Task",
}
"""Arguments of `Celery(...)`, as the settings or methods that do the same."""


def setting_name(text: str) -> str | None:
    """Today's name of a setting; None if this is none that the rules know."""
    name = text.lower()
    if name in OLD_NAMES:
        return OLD_NAMES[name]
    if RULES.knows("setting", name):
        return name
    for start, instead in _NAMESPACES.items():
        rest = instead + name.removeprefix(start)
        if name.startswith(start) and RULES.knows("setting", rest):
            return rest
    return None


def sources_of_settings(project: Project) -> set[str]:
    """The modules and the classes, as `module` or `module:Class`, that apps are configured from."""
    found = {name for name in project.modules if name.rpartition(".")[2] in _CONFIG_MODULES}
    for module in project.modules.values():
        for node in ast.walk(module.source.tree):
            if isinstance(node, ast.Call) and _is_configuring(node):
                arguments = [*node.args[:1], *(key.value for key in node.keywords)]
                found |= {name for each in arguments for name in _sources(each, module, project)}
    return found


def _is_configuring(node: ast.Call) -> bool:
    return isinstance(node.func, ast.Attribute) and node.func.attr == "config_from_object"


def _sources(node: ast.expr, module: Module, project: Project) -> Iterator[str]:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        name, _, attribute = node.value.partition(":")
        # The last part may be an attribute: `shop.config.Celery`, `django.conf:settings`.
        home = project.module(name) or project.module(name.rpartition(".")[0])
        if home is not None:
            last = attribute or node.value.rpartition(".")[2]
            yield home.name
            yield f"{home.name}:{last}"
        return
    thing = project.thing(node, module)
    if thing is not None and thing.kind == "module":
        named = project.module(thing.name)
        if named is not None:
            yield named.name
    # An instance is as good as its class.
    made: ast.expr = node
    if isinstance(made, ast.Call):
        made = made.func
    found = project.definition(made, module)
    if found is not None:
        yield f"{found[1].name}:{found[0].name}"


def settings_of(module: Module, sources: set[str]) -> Iterator[Sighting]:
    """The settings that a module assigns at its own level, or in a class for them."""
    body = module.source.tree.body
    is_source = module.name in sources
    yield from _assigned(body, module, "", is_source)
    for node in ast.walk(module.source.tree):
        if isinstance(node, ast.ClassDef):
            is_class = f"{module.name}:{node.name}" in sources
            yield from _assigned(node.body, module, node.name, is_class)


def _assigned(
    body: Iterable[ast.stmt], module: Module, where: str, is_source: bool
) -> Iterator[Sighting]:
    for node in body:
        # Settings often depend on the environment.
        for inner in ("body", "orelse", "finalbody"):
            if isinstance(node, ast.If | ast.Try | ast.With):
                yield from _assigned(getattr(node, inner, []), module, where, is_source)
        for name, value in _targets(node):
            # Names of their own may begin with CELERY_, too: those that no rule knows are left out.
            # Any name may be a setting in a module for them; elsewhere its start has to say so.
            if not is_source and not name.startswith(("CELERY_", "CELERYD_", "CELERYBEAT_")):
                continue
            today = setting_name(name)
            if today is not None:
                names = with_value(today, value)
                yield Sighting("setting", names, module.source.path, node.lineno, where)


def _targets(node: ast.stmt) -> Iterator[tuple[str, ast.expr | None]]:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
    elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        yield node.target.id, node.value


def pairs_of(node: ast.expr) -> Iterator[tuple[str, ast.expr, int]]:
    """Names, values and lines of a dict in the code: `{"a": 1}` or `dict(a=1)`."""
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value, value, key.lineno
    elif isinstance(node, ast.Call):
        for keyword in node.keywords:
            if keyword.arg is not None:
                yield keyword.arg, keyword.value, keyword.value.lineno


def is_settings(thing: Thing | None) -> bool:
    """Whether this is `app.conf`."""
    return thing == Thing("conf")
