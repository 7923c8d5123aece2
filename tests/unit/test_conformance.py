"""The shipped suite knows no store but the one that it is given."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncjobs.testing import conformance

FOLDER = Path(conformance.__file__).parent
MODULES = sorted(FOLDER.glob("*.py"))
OWN_STORES = tuple(f"asyncjobs.store.{name}." for name in ("redis", "memory", "embedded"))
NAMED_TUPLE = {"_replace", "_asdict", "_fields", "_make"}
"""Public in spite of their names."""


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{name.name}" for name in node.names)


def private(tree: ast.Module) -> Iterator[str]:
    """Private attributes of anything but `self`; names in texts, too, for getattr."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = ast.unparse(node.value)
            if owner != "self":
                yield f"{owner}.{node.attr}"
        elif isinstance(node, ast.Constant) and is_private(str(node.value)):
            yield repr(node.value)


def is_private(name: str) -> bool:
    is_hidden = name.isidentifier() and name.startswith("_") and not name.endswith("__")
    return is_hidden and name not in NAMED_TUPLE


def test_the_modules_are_found() -> None:
    assert {path.stem for path in MODULES} >= {"bad_queue", "bad_queue_ask", "spoiled", "store"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_it_imports_no_store_of_ours(path: Path) -> None:
    found = imports(ast.parse(path.read_text()))
    assert [name for name in found if f"{name}.".startswith(OWN_STORES)] == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_it_reads_nothing_private(path: Path) -> None:
    allowed = {"value._get_wrapped_function", "'_get_wrapped_function'"}
    assert set(private(ast.parse(path.read_text()))) - allowed == set()


def test_what_is_looked_for_is_found() -> None:
    text = "from asyncjobs.store import redis\nstore.backend._board\ngetattr(store, '_keys')"
    tree = ast.parse(text)
    assert list(imports(tree)) == ["asyncjobs.store.redis"]
    assert list(private(tree)) == ["store.backend._board", "'_keys'"]
