"""The list of mutants does not rot: its anchors are in the code and its tests exist."""

from __future__ import annotations

import ast
import functools
import re
from collections import Counter
from pathlib import Path

import pytest

import mutants

ROOT = Path(__file__).resolve().parents[2]
RULES = {
    int(found[1]) for found in re.finditer(r"^# +(\d+) ", mutants.LIST.read_text(), re.MULTILINE)
}
"""Those that the head of the list explains."""


LISTED = mutants.mutants()


ANCHORS = mutants.anchors(ROOT)


def test_each_rule_has_mutants() -> None:
    assert {mutant.rule for mutant in LISTED} == RULES
    assert [m.rule for m in mutants.mutants([3])] == [3] * sum(m.rule == 3 for m in LISTED)


def test_each_anchor_has_one_entry_and_each_entry_one_anchor() -> None:
    in_code = Counter((anchor.rule, anchor.keeps) for anchor in ANCHORS)
    listed = Counter((mutant.rule, mutant.keeps) for mutant in LISTED)
    assert [anchor for anchor, times in in_code.items() if times > 1] == []
    assert [anchor for anchor, times in listed.items() if times > 1] == []
    assert sorted(in_code.keys() - listed.keys()) == [], "tools/mutants.toml has no such entry"
    assert sorted(listed.keys() - in_code.keys()) == [], "the code has no such comment"


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: f"{mutant.rule}-{mutant.keeps}")
def test_a_mutant_changes_one_statement_and_has_tests(mutant: object) -> None:
    assert isinstance(mutant, mutants.Mutant)
    (anchor,) = (at for at in ANCHORS if (at.rule, at.keeps) == (mutant.rule, mutant.keeps))
    text = anchor.file.read_text()
    mutated = mutant.mutated(text, anchor)
    assert words(mutated, anchor.marker) != words(text, anchor.marker)
    if anchor.file.suffix == ".py":
        ast.parse(mutated)
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        assert name.partition("[")[0].rpartition("::")[2] in functions(ROOT / file)


@functools.cache
def functions(file: Path) -> set[str]:
    """All that a file has, with those of the modules that it takes everything from."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and node.names[0].name == "*":
            assert node.module is not None
            names |= functions(ROOT / f"{node.module.replace('.', '/')}.py")
    return names


def words(text: str, marker: str) -> list[str]:
    return [word for word, _, _ in mutants.tokens(text, marker)]


PYTHON = """\
def weigh(load):
    # rule:1 a heavy load is refused
    # It would break the bridge.
    if load > LIMIT:
        raise TooHeavy(
            load,
            LIMIT,
        )
    # rule:2 each load is counted
    elif load:
        count(load)
    return load
"""
LUA = """\
#!lua flags=allow-oom
-- rule:6 it is not refused
if #load > 0 then
  -- rule:1 a load is kept
  redis.call('SET', KEY, '-- not # a comment')  -- rule 1
end
"""


@pytest.mark.parametrize(
    ("text", "rule", "keeps", "old", "new", "changed"),
    [
        pytest.param(
            *(PYTHON, 1, "a heavy load is refused", "raise TooHeavy(load, LIMIT)", "pass"),
            ("raise TooHeavy(\n            load,\n            LIMIT,\n        )", "pass"),
            id="a part, spaced in another way",
        ),
        pytest.param(
            *(PYTHON, 2, "each load is counted", None, "else:\n    pass"),
            ("elif load:\n        count(load)", "else:\n        pass"),
            id="all of a statement, its place kept",
        ),
        pytest.param(
            *(LUA, 6, "it is not refused", "flags=allow-oom", ""),
            (" flags=allow-oom\n", " \n"),
            id="the line above which nothing can stand",
        ),
        pytest.param(
            *(LUA, 1, "a load is kept", "'-- not # a comment'", "'gone'"),
            ("'-- not # a comment'", "'gone'"),
            id="a text is no comment",
        ),
    ],
)
def test_a_statement_is_found_by_the_comment_above_it(
    text: str,
    rule: int,
    keeps: str,
    old: str | None,
    new: str,
    changed: tuple[str, str],
    tmp_path: Path,
) -> None:
    (tmp_path / "asyncjobs").mkdir()
    file = tmp_path / "asyncjobs" / ("weigh.py" if text == PYTHON else "weigh.lua")
    file.write_text(text)
    path, before = mutants.Mutant(rule, keeps, old, new, ()).apply(tmp_path)
    assert (path, before) == (file, text)
    assert file.read_text() == text.replace(*changed)


def test_what_is_not_there_once_is_told(tmp_path: Path) -> None:
    (tmp_path / "asyncjobs").mkdir()
    file = tmp_path / "asyncjobs" / "answer.py"
    file.write_text("# rule:1 an answer\na = 1 + 1\n")
    for old, found in (("b", 0), ("1", 2)):
        mutant = mutants.Mutant(1, "an answer", old, "", ())
        with pytest.raises(ValueError, match=f"its old text is {found} times in the statement"):
            mutant.apply(tmp_path)
    mutant = mutants.Mutant(2, "an answer", None, "", ())
    with pytest.raises(ValueError, match="rule:2 an answer is 0 times an anchor in the code"):
        mutant.apply(tmp_path)


def test_a_mutant_is_applied_and_told_apart(tmp_path: Path) -> None:
    answer = tmp_path / "asyncjobs" / "answer.py"
    answer.parent.mkdir()
    (answer.parent / "__init__.py").touch()
    # The plugin that pytest loads, for the distribution is installed here.
    (answer.parent / "testing").mkdir()
    (answer.parent / "testing" / "plugin.py").touch()
    answer.write_text("# rule:1 enough\nANSWER = 42\n")
    (tmp_path / "test_answer.py").write_text(
        "from asyncjobs.answer import ANSWER\ndef test_it():\n    assert ANSWER > 40\n"
    )
    tests = ("test_answer.py::test_it",)
    found = mutants.Mutant(1, "enough", "42", "4", tests)
    assert mutants.try_mutant(tmp_path, found).is_found
    survives = mutants.Mutant(1, "enough", "42", "41", tests)
    assert mutants.try_mutant(tmp_path, survives).output.startswith("exit code 0")
    broken = mutants.Mutant(1, "enough", "ANSWER", "QUESTION", tests)
    assert not mutants.try_mutant(tmp_path, broken).is_found
    assert answer.read_text() == "# rule:1 enough\nANSWER = 42\n"


def test_the_list_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--list", "--rule", "14"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("  14  ")
    assert "test_five_thousand_at_a_time_on_six_connections" in shown
    with pytest.raises(SystemExit):
        mutants.main(["--rule", "99"])
