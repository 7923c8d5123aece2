"""Removes each rule of the store from the code in turn: a test has to fail for each.

    python tools/mutants.py               all of them, a table, end with 1 if one survives
    python tools/mutants.py --rule 4      those of one rule (may be repeated)
    python tools/mutants.py --list        what would be removed, without running anything

The mutants are listed in tools/mutants.toml. The tree is copied to a temporary folder;
the tests run there first as it is, and have to pass.
"""

# ruff: noqa: INP001, T201  a program, not a package; it prints its table

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIST = ROOT / "tools" / "mutants.toml"
LIMIT_S = 300.0
"""How long one run of tests may take; a mutant that makes them hang is not found by them."""
FAILED, PASSED = 1, 0
"""What pytest ends with; every other code means that the tests did not run."""
SOME_FAILED = re.compile(r"^(?:\d+ \w+, )*\d+ failed\b", re.MULTILINE)
"""In pytest's last line; what is left at the end of the process is told behind it."""


@dataclass(frozen=True)
class Mutant:
    """One text in the code that keeps a rule, and what stands there without it."""

    rule: int
    removes: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> str:
        """Change the file below `root`; returns its text as it was.

        Raises ValueError when the text to be replaced is not there exactly once.
        """
        path = root / self.file
        text = path.read_text()
        found = text.count(self.old)
        if found != 1:
            raise ValueError(
                f"rule {self.rule}, {self.removes!r}: the old text is {found} times in "
                f"{self.file}, not once; mend it in tools/mutants.toml"
            )
        path.write_text(text.replace(self.old, self.new))
        return text


@dataclass(frozen=True)
class Verdict:
    """What came of one mutant; `found` is what the tests ended with when it is not so."""

    is_found: bool
    seconds: float
    told: str = ""


def mutants(rules: Sequence[int] = ()) -> list[Mutant]:
    """Those of tools/mutants.toml that belong to `rules`; without any, all."""
    listed = tomllib.loads(LIST.read_text())["mutant"]
    made = [Mutant(**{**fields, "tests": tuple(fields["tests"])}) for fields in listed]
    return [mutant for mutant in made if not rules or mutant.rule in rules]


def copy_tree(to: Path) -> None:
    """What git has or would take, as it lies in the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def environment(tree: Path) -> dict[str, str]:
    """Imports come from the copy; nothing compiled is kept, for two texts of one size that
    are written in the same second would share it."""
    return {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}


def check_imports(tree: Path) -> None:
    """Raises SystemExit when the installed package would be tested instead of the copy."""
    code = "import asyncjobs; print(asyncjobs.__file__)"
    command = [sys.executable, "-c", code]
    told = subprocess.run(
        command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True
    )
    if not Path(told.stdout.strip()).is_relative_to(tree):
        raise SystemExit(f"the tests would import {told.stdout.strip()}, not the copy in {tree}")


def run_tests(tree: Path, tests: Sequence[str], *arguments: str) -> tuple[int | None, str]:
    """Pytest's exit code, None when it took too long, and the end of what it told."""
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header",
        "--hypothesis-seed=1", *arguments, *tests,
    ]  # fmt: skip
    # A session of its own: servers that a test has started end with it in any case.
    process = subprocess.Popen(
        command, cwd=tree, env=environment(tree), start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        told, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, f"no end within {LIMIT_S:.0f} s"
    return process.returncode, told


def try_mutant(tree: Path, mutant: Mutant) -> Verdict:
    """Change the copy, run the tests, put it back."""
    before = mutant.apply(tree)
    began = time.monotonic()
    try:
        code, told = run_tests(tree, mutant.tests, "-x", "--tb=no")
    finally:
        (tree / mutant.file).write_text(before)
    seconds = time.monotonic() - began
    # An error while tests are collected or set up is no failure of what they assert.
    if code == FAILED and SOME_FAILED.search(told):
        return Verdict(True, seconds)
    last = told.strip().splitlines()[-1] if told.strip() else "nothing was told"
    return Verdict(False, seconds, f"exit code {code}: {last}")


def show_list(found: Sequence[Mutant]) -> None:
    for mutant in found:
        print(f"{mutant.rule:>4}  {mutant.removes}  ({mutant.file})")
        for test in mutant.tests:
            print(f"      {test}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a mutant survives or the tests fail without one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rule", type=int, action="append", default=[], metavar="N")
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    found = mutants(options.rule)
    if not found:
        parser.error(f"no mutant of rule {', '.join(map(str, options.rule))}")
    if options.list:
        show_list(found)
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        return try_all(found, Path(folder).resolve())


def try_all(found: Sequence[Mutant], tree: Path) -> int:
    copy_tree(tree)
    check_imports(tree)
    tests = list(dict.fromkeys(test for mutant in found for test in mutant.tests))
    code, told = run_tests(tree, tests)
    if code != PASSED:
        print(told)
        print("the tests fail without any mutant; mend them first")
        return 1
    print(f"{len(tests)} tests pass without a mutant; mutants: {len(found)}")
    print("rule  found in  without  (test)")
    survivors = 0
    for mutant in found:
        verdict = try_mutant(tree, mutant)
        took = f"{verdict.seconds:6.1f} s" if verdict.is_found else "SURVIVES"
        survivors += not verdict.is_found
        print(f"{mutant.rule:>4}  {took}  {mutant.removes}  ({mutant.tests[0]})", flush=True)
        if verdict.told:
            print(f"      {verdict.told}", flush=True)
    print(f"found: {len(found) - survivors} of {len(found)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
