"""Removes each rule of the store from the code in turn: a test has to fail for each.

    python tools/mutants.py               all of them, a table, end with 1 if one survives
    python tools/mutants.py --rule 4      those of one rule (may be repeated)
    python tools/mutants.py --about lease those whose text has these words (may be repeated)
    python tools/mutants.py --list        what would be removed, without running anything

The mutants are listed in tools/mutants.toml. Each belongs to a comment `rule:4 what it keeps`
in the code, which stands above the statement that keeps it. The tree is copied to a temporary
folder; the tests run there first as it is, and have to pass.
"""

# ruff: noqa: T201  a program, not a package; it prints its table

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
"""How long one run of tests may take. A mutant that only makes them hang counts as not found."""
FAILED, PASSED = 1, 0
"""What pytest ends with; every other code means that the tests did not run."""
SOME_FAILED = re.compile(r"^(?:\d+ \w+, )*\d+ failed\b", re.MULTILINE)
"""In pytest's summary. Messages from the end of the process may follow it."""

ANCHOR = re.compile(r"^[ ]*(#|--) rule:(\d+) (.+)$", re.MULTILINE)
"""A comment that says what the statement below it keeps."""
_TEXT = r'"""(?:\\.|[^\\])*?"""|"(?:\\.|[^"\\\n])*"' + r"|'(?:\\.|[^'\\\n])*'"
TOKENS = {
    marker: re.compile(rf"(?P<comment>{marker}[^\n]*)|{_TEXT}|\w+|\S", re.DOTALL)
    for marker in ("#", "--")
}
"""What a text of Python or Lua consists of, whatever its lines look like."""
CLOSES = re.compile(r"[)\]}]|(?:end|else|elseif|elif|except|finally|until)\b")
"""How a line begins that goes on with the statement above it."""


@dataclass(frozen=True)
class Anchor:
    """Where a comment `rule:4 what it keeps` stands."""

    rule: int
    keeps: str
    file: Path
    line: int
    """Counted from 0."""
    marker: str
    """What a comment begins with in this file: # or --."""


@dataclass(frozen=True)
class Mutant:
    """What stands in the code in place of a statement that keeps a rule.

    The statement is found by its anchor. `old` is the part of it that is replaced, compared
    without regard to spaces, line breaks and comments; None is all of it.
    """

    rule: int
    keeps: str
    old: str | None
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> tuple[Path, str]:
        """Change the code below `root`; returns the file and its text as it was.

        Raises ValueError when there is not exactly one anchor, or one such part below it.
        """
        found = [
            anchor
            for anchor in anchors(root)
            if (anchor.rule, anchor.keeps) == (self.rule, self.keeps)
        ]
        if len(found) != 1:
            raise ValueError(
                f"{self.title} is {len(found)} times an anchor in the code, not once; "
                "mend the comment or tools/mutants.toml"
            )
        path, text = found[0].file, found[0].file.read_text()
        path.write_text(self.mutated(text, found[0]))
        return path, text

    def mutated(self, text: str, anchor: Anchor) -> str:
        """The text of the anchor's file without what keeps the rule."""
        first, end = statement_span(text, anchor)
        statement = text[first:end]
        start, stop = 0, len(statement)
        if self.old is not None:
            parts = find_part(statement, self.old, anchor.marker)
            if len(parts) != 1:
                raise ValueError(
                    f"{self.title}: its old text is {len(parts)} times in the statement "
                    f"below line {anchor.line + 1} of {anchor.file}, not once; "
                    "mend it in tools/mutants.toml"
                )
            start, stop = parts[0]
        line = text[text.rfind("\n", 0, first + start) + 1 : first + start]
        indent = line[: len(line) - len(line.lstrip())]
        new = self.new.replace("\n", "\n" + indent)
        return text[: first + start] + new + text[first + stop :]

    @property
    def title(self) -> str:
        return f"rule:{self.rule} {self.keeps}"


def anchors(root: Path) -> list[Anchor]:
    """All of the package below `root`."""
    found = []
    for file in sorted((root / "asyncjobs").rglob("*")):
        if file.suffix not in {".py", ".lua"}:
            continue
        text = file.read_text()
        found += [
            Anchor(int(at[2]), at[3], file, text.count("\n", 0, at.start()), at[1])
            for at in ANCHOR.finditer(text)
        ]
    return found


def statement_span(text: str, anchor: Anchor) -> tuple[int, int]:
    """Where the statement below an anchor begins and ends, with the block that belongs to it.

    It ends before the next line that is indented no deeper, unless that one goes on with it.
    An anchor below the `#!` line of a script is about that line: nothing can stand above it.
    """
    lines = text.splitlines(keepends=True)
    first = anchor.line + 1
    if lines[anchor.line - 1].startswith("#!"):
        first = anchor.line - 1
    while lines[first].lstrip().startswith(anchor.marker) and not lines[first].startswith("#!"):
        first += 1
    indent = indent_of(lines[first])
    last = position = first
    while (position := position + 1) < len(lines):
        line = lines[position]
        if not line.strip():
            continue
        is_inside = indent_of(line) > indent or lines[last].startswith("@", indent)
        goes_on = indent_of(line) == indent and CLOSES.match(line.lstrip())
        if not is_inside and not goes_on:
            break
        last = position
    begin = sum(map(len, lines[:first])) + indent
    return begin, begin + len("".join(lines[first : last + 1]).rstrip()) - indent


def indent_of(line: str) -> int:
    return len(line) - len(line.lstrip())


def find_part(text: str, part: str, marker: str) -> list[tuple[int, int]]:
    """Each place where `text` has the same tokens as `part`."""
    here = tokens(text, marker)
    wanted = [word for word, _, _ in tokens(part, marker)]
    words = [word for word, _, _ in here]
    return [
        (here[at][1], here[at + len(wanted) - 1][2])
        for at in range(len(here) - len(wanted) + 1)
        if words[at : at + len(wanted)] == wanted
    ]


def tokens(text: str, marker: str) -> list[tuple[str, int, int]]:
    """Words, texts and signs with their places; no comments, no comma before a bracket."""
    found = [at for at in TOKENS[marker].finditer(text) if not at["comment"]]
    followed = zip(found, [*found[1:], None], strict=True)
    return [
        (at[0], at.start(), at.end())
        for at, after in followed
        if not (at[0] == "," and after is not None and after[0] in ")]}")
    ]


@dataclass(frozen=True)
class Verdict:
    """Whether a test has found the mutant. If not, `output` has the last line of the tests."""

    is_found: bool
    seconds: float
    output: str = ""


def mutants(rules: Sequence[int] = ()) -> list[Mutant]:
    """Those of tools/mutants.toml that belong to `rules`; without any, all."""
    listed = tomllib.loads(LIST.read_text())["mutant"]
    made = [
        Mutant(
            fields["rule"],
            fields["keeps"],
            fields.get("old"),
            fields["new"],
            tuple(fields["tests"]),
        )
        for fields in listed
    ]
    return [mutant for mutant in made if not rules or mutant.rule in rules]


def copy_tree(to: Path) -> None:
    """What git has or would take, as it lies in the folder."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
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
    found = subprocess.run(
        command, cwd=tree, env=environment(tree), capture_output=True, text=True, check=True
    )
    if not Path(found.stdout.strip()).is_relative_to(tree):
        raise SystemExit(f"the tests would import {found.stdout.strip()}, not the copy in {tree}")


def run_tests(tree: Path, tests: Sequence[str], *arguments: str) -> tuple[int | None, str]:
    """Pytest's exit code, None when it took too long, and the end of its output."""
    command = [
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--no-header"),
        "--hypothesis-seed=1",
        *arguments,
        *tests,
    ]
    # A session of its own: servers that a test has started end with it in any case.
    process = subprocess.Popen(
        command,
        cwd=tree,
        env=environment(tree),
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        return None, f"no end within {LIMIT_S:.0f} s"
    return process.returncode, output


def try_mutant(tree: Path, mutant: Mutant) -> Verdict:
    """Change the copy, run the tests, put it back."""
    path, before = mutant.apply(tree)
    began = time.monotonic()
    try:
        code, output = run_tests(tree, mutant.tests, "-x", "--tb=no")
    finally:
        path.write_text(before)
    seconds = time.monotonic() - began
    # An error while tests are collected or set up is no failure of what they assert.
    if code == FAILED and SOME_FAILED.search(output):
        return Verdict(True, seconds)
    last = output.strip().splitlines()[-1] if output.strip() else "no output"
    return Verdict(False, seconds, f"exit code {code}: {last}")


def show_list(found: Sequence[Mutant]) -> None:
    for mutant in found:
        print(f"{mutant.rule:>4}  {mutant.keeps}")
        for test in mutant.tests:
            print(f"      {test}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 1 when a mutant survives or the tests fail without one."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rule", type=int, action="append", default=[], metavar="N")
    parser.add_argument("--about", action="append", default=[], metavar="TEXT")
    parser.add_argument("--list", action="store_true", help="run nothing")
    options = parser.parse_args(arguments)
    found = mutants(options.rule)
    if options.about:
        found = [each for each in found if any(text in each.keeps for text in options.about)]
    if not found:
        parser.error("no mutant of this rule with these words")
    if options.list:
        show_list(found)
        return 0
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        return try_all(found, Path(folder).resolve())


def try_all(found: Sequence[Mutant], tree: Path) -> int:
    copy_tree(tree)
    check_imports(tree)
    tests = list(dict.fromkeys(test for mutant in found for test in mutant.tests))
    code, output = run_tests(tree, tests)
    if code != PASSED:
        print(output)
        print("the tests fail without any mutant; mend them first")
        return 1
    print(f"{len(tests)} tests pass without a mutant; mutants: {len(found)}")
    print("rule  found in  without  (test)")
    survivors = 0
    for mutant in found:
        verdict = try_mutant(tree, mutant)
        took = f"{verdict.seconds:6.1f} s" if verdict.is_found else "SURVIVES"
        survivors += not verdict.is_found
        print(f"{mutant.rule:>4}  {took}  {mutant.keeps}  ({mutant.tests[0]})", flush=True)
        if verdict.output:
            print(f"      {verdict.output}", flush=True)
    print(f"found: {len(found) - survivors} of {len(found)}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
