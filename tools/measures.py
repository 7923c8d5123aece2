"""Measures how the code of the package reads: a thermometer, not a goal.

    python tools/measures.py                  the package, a table with what is aimed at
    python tools/measures.py FOLDER           another package, or another checkout of this one
    python tools/measures.py --where          also where each conditional expression and so on is

What is over a limit asks for the concept that is missing; tests/unit/test_measures.py holds
the limits.
"""

# ruff: noqa: T201  a program, not a package; it prints its table

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOT = {
    "store/redis/exchange.py": "packs and reads each job of an exchange",
    "store/redis/link.py": "sends each command",
    "store/redis/wire.py": "reads each reply",
    "client/batcher.py": "takes each enqueue into a batch",
    "client/lone.py": "sends a job that comes alone",
    "worker/engine/intake.py": "decides what follows each exchange",
    "worker/engine/loop.py": "settles and takes, and starts each job",
    "worker/engine/running.py": "finds each running job",
}
"""Files in which a job costs microseconds, and why. Folding is allowed there, where it has
been measured: conditional expressions and tuple assignments are counted in all the others."""
CASES = "testing/conformance/"
"""Tests that ship: they read like tests, and are not measured."""
REASON = re.compile(r"^\s*# size: \S.*")
"""The comment above a large class which says why it has to be one."""
MAX_FILE, MAX_CLASS, MAX_ATTRIBUTES = 500, 250, 15


@dataclass
class Class:
    """One class: where it is, and how large."""

    where: str
    name: str
    lines: int
    attributes: int
    has_reason: bool

    @property
    def is_large(self) -> bool:
        return self.lines > MAX_CLASS or self.attributes > MAX_ATTRIBUTES

    def __str__(self) -> str:
        return f"{self.where} {self.name}: {self.lines} lines, {self.attributes} attributes"


@dataclass
class Measures:
    """What is counted over all files of a package; a place is written as file:line."""

    files: dict[str, int] = field(default_factory=dict)
    functions: list[int] = field(default_factory=list)
    classes: list[Class] = field(default_factory=list)
    characters: int = 0
    filled: int = 0
    """Lines that are not blank."""
    comments: int = 0
    cold: int = 0
    """Lines of the files that are not on the hot path."""
    conditionals: list[str] = field(default_factory=list)
    tuples: list[str] = field(default_factory=list)
    unformatted: list[str] = field(default_factory=list)
    imports: dict[str, set[str]] = field(default_factory=dict)

    @property
    def lines(self) -> int:
        return sum(self.files.values())

    @property
    def comment_share(self) -> float:
        """Of all lines, in per cent: those that hold nothing but a comment."""
        return 100 * self.comments / self.lines

    @property
    def conditionals_per_1000(self) -> float:
        """Off the hot path, per 1,000 lines."""
        return 1000 * len(self.conditionals) / self.cold

    @property
    def tuples_per_1000(self) -> float:
        """Off the hot path, per 1,000 lines."""
        return 1000 * len(self.tuples) / self.cold

    @property
    def characters_per_line(self) -> float:
        return self.characters / self.filled

    @property
    def large_files(self) -> list[str]:
        return [f"{name}: {size}" for name, size in self.files.items() if size > MAX_FILE]

    @property
    def large_classes(self) -> list[str]:
        """Those without a reason beside them."""
        return [str(made) for made in self.classes if made.is_large and not made.has_reason]

    def quantile(self, share: float) -> int:
        """The lines of the function below which `share` of all are."""
        ordered = sorted(self.functions)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def measure(package: Path, hot: Iterable[str] = HOT) -> Measures:
    """Everything of one package, by its source alone."""
    found = Measures()
    modules = {
        module_name(package, path): path
        for path in sorted(package.rglob("*.py"))
        if not path.relative_to(package).as_posix().startswith(CASES)
    }
    for module, path in modules.items():
        name = path.relative_to(package).as_posix()
        text = path.read_text()
        tree = ast.parse(text)
        lines = text.splitlines()
        found.files[name] = len(lines)
        found.characters += sum(len(line.strip()) for line in lines)
        found.filled += sum(bool(line.strip()) for line in lines)
        found.comments += sum(line.lstrip().startswith("#") for line in lines)
        found.unformatted += [
            f"{name}:{number}" for number, line in enumerate(lines, 1) if is_unformatted(line)
        ]
        found.functions += [
            (node.end_lineno or node.lineno) - node.lineno + 1 for node in functions(tree)
        ]
        found.classes += classes(tree, lines, name)
        if name not in hot:
            found.cold += len(lines)
            found.conditionals += places(tree, name, is_conditional)
            found.tuples += places(tree, name, is_folded)
        found.imports[module] = set(imports(tree, module, path, modules))
    return found


def module_name(package: Path, path: Path) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def is_unformatted(line: str) -> bool:
    return "# fmt: " + "skip" in line or "# fmt: " + "off" in line


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def classes(tree: ast.AST, lines: Sequence[str], name: str) -> Iterator[Class]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.ClassDef):
            continue
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        yield Class(
            where=f"{name}:{node.lineno}",
            name=node.name,
            lines=(node.end_lineno or node.lineno) - node.lineno + 1,
            attributes=len(attributes(node)),
            has_reason=any(REASON.match(line) for line in comment_above(lines, first)),
        )


def comment_above(lines: Sequence[str], number: int) -> Iterator[str]:
    """The lines of the comment that ends above a line, the last one first."""
    for line in reversed(lines[: number - 1]):
        if not line.lstrip().startswith("#"):
            return
        yield line


def attributes(made: ast.ClassDef) -> set[str]:
    """What its methods set on `self`. Fields of plain values are no state, and do not count."""
    return {
        node.attr
        for node in ast.walk(made)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


def is_conditional(node: ast.AST) -> bool:
    return isinstance(node, ast.IfExp)


def is_folded(node: ast.AST) -> bool:
    """Several assignments in one line: `a, b = 1, 2`."""
    return (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Tuple)
        and any(isinstance(target, ast.Tuple) for target in node.targets)
    )


def places(tree: ast.AST, name: str, wanted: Callable[[ast.AST], bool]) -> list[str]:
    return [
        f"{name}:{node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.expr | ast.stmt) and wanted(node)
    ]


def imports(tree: ast.AST, module: str, path: Path, modules: dict[str, Path]) -> Iterator[str]:
    """Modules of the package that this one names, also inside functions and for types."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name in modules)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, module, path)
            for each in node.names:
                inner = f"{source}.{each.name}"
                if inner in modules:
                    yield inner
                elif source in modules:
                    yield source


def absolute(node: ast.ImportFrom, module: str, path: Path) -> str:
    """The name of the module that is imported from, also by dots."""
    if not node.level:
        return node.module or ""
    parts = module.split(".")
    up = node.level - (path.name == "__init__.py")
    parts = parts[: len(parts) - up]
    return ".".join([*parts, node.module] if node.module else parts)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of modules that reach each other, by Tarjan's algorithm."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        order[node] = low[node] = len(order)
        stack.append(node)
        for other in graph[node]:
            if other not in order:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], order[other])
        if low[node] == order[node]:
            at = stack.index(node)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for node in graph:
        if node not in order:
            visit(node)
    return found


def rows(found: Measures) -> Iterator[tuple[str, str, str]]:
    """What is measured, the figure, and what is aimed at."""
    largest = max(found.classes, key=lambda made: made.lines)
    fullest = max(found.classes, key=lambda made: made.attributes)
    sizes = [found.quantile(0.5), found.quantile(0.9), max(found.functions)]
    yield "lines, files", f"{found.lines:,}, {len(found.files)}", ""
    yield "function lines p50 / p90 / max", " / ".join(map(str, sizes)), ""
    yield "largest class, lines", f"{largest.lines} ({largest.name})", str(MAX_CLASS)
    yield "most attributes", f"{fullest.attributes} ({fullest.name})", str(MAX_ATTRIBUTES)
    yield "comment lines, %", f"{found.comment_share:.1f}", "3-5"
    yield "conditional expressions per 1,000 lines", f"{found.conditionals_per_1000:.1f}", "7"
    yield "tuple assignments per 1,000 lines", f"{found.tuples_per_1000:.1f}", "1"
    yield "characters per non-blank line", f"{found.characters_per_line:.1f}", ""
    yield "fmt: skip", str(len(found.unformatted)), "0"
    yield f"files over {MAX_FILE} lines", str(len(found.large_files)), "0"
    yield "large classes without a reason", str(len(found.large_classes)), "0"
    yield "import circles", str(len(circles(found.imports))), "0"


def show(found: Measures, is_long: bool) -> None:
    for name, figure, limit in rows(found):
        print(f"{name:<42} {figure:>28}  {limit}".rstrip())
    for title, places in (
        ("files over the limit", found.large_files),
        ("large classes without a reason", found.large_classes),
        ("circles", [" ".join(circle) for circle in circles(found.imports)]),
        ("conditional expressions", found.conditionals if is_long else []),
        ("tuple assignments", found.tuples if is_long else []),
        ("fmt: skip", found.unformatted if is_long else []),
    ):
        if places:
            print(f"{title}:", *places, sep="\n  ")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("package", nargs="?", type=Path, default=ROOT / "asyncjobs")
    parser.add_argument("--where", action="store_true", help="tell each place")
    options = parser.parse_args(arguments)
    show(measure(options.package.resolve()), options.where)
    return 0


if __name__ == "__main__":
    sys.exit(main())
