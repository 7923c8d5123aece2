"""Facts about the repository itself: sizes, exports, packaging, documents."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import asyncjobs

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "asyncjobs"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = sorted(PACKAGE.rglob("*.lua"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
MODULES = [m.name for m in pkgutil.walk_packages([str(PACKAGE)], "asyncjobs.")]
MAX_FILE, MAX_FUNCTION = 500, 40


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


# Sizes and exports


def too_long_functions(path: Path) -> Iterator[str]:
    """Docstrings and comments are not counted: who explains must not pay with lines."""
    text = path.read_text()
    lines = text.splitlines()
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        size = (node.end_lineno or node.lineno) - node.lineno + 1
        first = node.body[0]
        if ast.get_docstring(node, clean=False) is not None:
            size -= (first.end_lineno or first.lineno) - first.lineno + 1
        size -= sum(
            line.lstrip().startswith("#") for line in lines[node.lineno - 1 : node.end_lineno]
        )
        if size > MAX_FUNCTION:
            yield f"{name_of(path)}:{node.lineno} {node.name}: {size} lines"


def test_no_file_of_the_package_is_too_long() -> None:
    sizes = {name_of(p): len(p.read_text().splitlines()) for p in [*SOURCES, *SCRIPTS]}
    assert {name: size for name, size in sizes.items() if size > MAX_FILE} == {}


def test_no_function_of_the_package_is_too_long() -> None:
    assert [line for path in SOURCES for line in too_long_functions(path)] == []


@pytest.mark.parametrize("module", ["asyncjobs", *MODULES])
def test_every_exported_name_is_there(module: str) -> None:
    if module.endswith("__main__"):
        return  # importing it would run the command line
    loaded = importlib.import_module(module)
    names = list(getattr(loaded, "__all__", []))
    assert len(names) == len(set(names)), "a name is exported twice"
    assert [name for name in names if not hasattr(loaded, name)] == []


def test_the_public_names_are_all_declared() -> None:
    public = set(asyncjobs.__all__)
    assert "AsyncJobs" in public
    assert [name for name in public if name.startswith("_") and name != "__version__"] == []


# Stored scripts


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_opens_with_its_contract(script: Path) -> None:
    lines = script.read_text().splitlines()
    start = 1 if lines[0].startswith("#!") else 0
    header: list[str] = []
    for line in lines[start:]:
        if not line.startswith("--"):
            break
        header.append(line.removeprefix("--").strip())
    assert header, "opens with a comment: what it does, its KEYS, ARGV and result"
    assert not header[0].startswith(("KEYS", "ARGV", "Result")), "says first what it does"
    for part in ("KEYS:", "ARGV:", "Result:"):
        assert [line for line in header if line.startswith(part)], f"no line {part}"


# What the repository must not hold

# Put together here, so that this file does not hold them either.
FORBIDDEN = {
    "a path of one machine": r"/(?:work|root|home|Users)/\w|/tmp/" + "probe",
    "the host of a package index": r"//[\w.-]*(?:pypi|python" + r"hosted)[\w.-]*|/simple/\w",
    "a setting for a package index": r"--(?:extra-)?index-" + r"url|--find-" + "links",
}


def stored_files() -> list[Path]:
    """What git has or would take; everything in the folder where there is no git."""
    found = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if found.returncode != 0:
        pytest.skip("not a git checkout")
    paths = [ROOT / name for name in found.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_stored_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in stored_files():
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1):
            if path != Path(__file__) and pattern.search(line):
                found.append(f"{name_of(path)}:{number}: {line.strip()}")
    assert found == []


# Packaging


def test_every_development_requirement_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9-]+==[\w.]+", line)] == []
    pinned = [line.split("==")[0] for line in lines]
    assert pinned == sorted(set(pinned)), "one line a package, in order"
    meta = project()["project"]
    wanted = [Requirement(text) for group in requirement_groups(meta) for text in group]
    names = {str(canonicalize_name(item.name)) for item in wanted}
    assert names - set(pinned) - {meta["name"]} == set()


def test_requirements_have_lower_bounds_only() -> None:
    wanted = [Requirement(t) for group in requirement_groups(project()["project"]) for t in group]
    bounds = {str(item): {part.operator for part in item.specifier} for item in wanted}
    assert {text: found for text, found in bounds.items() if found - {">="}} == {}


def requirement_groups(meta: dict[str, Any]) -> list[list[str]]:
    return [meta["dependencies"], *meta["optional-dependencies"].values()]


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()


# Documents


def code_blocks(document: Path, language: str) -> list[str]:
    return re.findall(
        rf"^```{language}\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL
    )


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_files(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", document.read_text())
    local = [target for target in targets if "://" not in target]
    assert [target for target in local if not (document.parent / target).exists()] == []


def anchors_of(document: Path) -> set[str]:
    """What a link to one of its headings ends with, as code hosts make it of the heading."""
    text = re.sub(r"^```.*?^```$", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_links_lead_to_headings(document: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", document.read_text())
    local = [(page, anchor) for page, anchor in targets if "://" not in page]
    missing = [
        f"{page}#{anchor}"
        for page, anchor in local
        if anchor not in anchors_of(document.parent / page if page else document)
    ]
    assert missing == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_python_blocks_can_be_parsed(document: Path) -> None:
    for block in code_blocks(document, "python"):
        compile(block, name_of(document), "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_names_imported_in_documents_are_public() -> None:
    used: set[str] = set()
    for document in DOCUMENTS:
        for block in code_blocks(document, "python"):
            for node in ast.walk(ast.parse(block)):
                if isinstance(node, ast.ImportFrom) and node.module == "asyncjobs":
                    used |= {alias.name for alias in node.names}
    assert used - set(asyncjobs.__all__) == set()


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@pytest.mark.parametrize("document", DOCUMENTS, ids=name_of)
def test_make_targets_in_documents_are_there(document: Path) -> None:
    blocks = "\n".join(
        re.findall(r"^```[a-z]*\n(.*?)^```$", document.read_text(), re.MULTILINE | re.DOTALL)
    )
    named = set(re.findall(r"^(?:\$ )?make ([a-z][a-z-]*)", blocks, re.MULTILINE))
    assert named - make_targets() == set()


def test_every_make_target_is_in_its_help() -> None:
    text = (ROOT / "Makefile").read_text()
    explained = set(re.findall(r"^([a-z][a-z-]*):.*## \S", text, re.MULTILINE))
    assert make_targets() - explained == set()


def test_the_rooms_in_contributing_are_there() -> None:
    """The picture of the house must not show a room that was moved, nor miss one."""
    text = (ROOT / "CONTRIBUTING.md").read_text().partition("## The house")[2]
    text = text.partition("\n## ")[0]
    rooms = set(re.findall(r"`((?:\w+/)+)`", text))
    assert [room for room in sorted(rooms) if not (PACKAGE / room).is_dir()] == []
    folders = {f"{path.parent.name}/" for path in PACKAGE.glob("*/__init__.py")}
    assert folders - rooms == set()


def test_the_guardian_of_the_embedded_store_imports_the_standard_library_only() -> None:
    """It runs by its path in an isolated interpreter, which has no asyncjobs."""
    tree = ast.parse((PACKAGE / "store/embedded/guardian.py").read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    assert names - sys.stdlib_module_names == set()


def test_every_module_logs_by_a_guarded_log() -> None:
    """A handler of the user's that raises would end an attempt, a duty or the event loop."""
    plain = [
        f"{name_of(path)}:{number}"
        for path in SOURCES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.match(r"\w+ = logging\.getLogger\(", line)
    ]
    assert plain == [], 'write logger = GuardedLog("..."), of asyncjobs.guarded'
