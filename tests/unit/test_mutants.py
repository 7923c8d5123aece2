"""The list of mutants does not rot: its texts are in the code and its tests exist."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
RULES = 17


def load() -> ModuleType:
    """tools/mutants.py, which is a program and in no package."""
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools/mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


mutants = load()
LISTED = mutants.mutants()


def test_each_rule_has_mutants() -> None:
    assert {mutant.rule for mutant in LISTED} == set(range(1, RULES + 1))
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in LISTED}) == len(LISTED)
    assert [m.rule for m in mutants.mutants([3])] == [3] * sum(m.rule == 3 for m in LISTED)


@pytest.mark.parametrize("mutant", LISTED, ids=lambda mutant: f"{mutant.rule}-{mutant.removes}")
def test_a_mutant_changes_one_place_and_has_tests(mutant: object) -> None:
    assert isinstance(mutant, mutants.Mutant)
    text = (ROOT / mutant.file).read_text()
    assert text.count(mutant.old) == 1, f"mend the old text in tools/mutants.toml: {mutant.file}"
    assert mutant.old != mutant.new
    if mutant.file.endswith(".py"):
        ast.parse(text.replace(mutant.old, mutant.new))
    assert mutant.tests
    for test in mutant.tests:
        file, _, name = test.partition("::")
        names = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name.partition("[")[0] in names


def test_a_text_that_is_not_there_is_told(tmp_path: Path) -> None:
    (tmp_path / "answer.py").write_text("a = 1\na = 1\n")
    for old, found in (("b", 0), ("a = 1", 2)):
        mutant = mutants.Mutant(1, "something", "answer.py", old, "", ())
        with pytest.raises(ValueError, match=f"rule 1, 'something': the old text is {found} times"):
            mutant.apply(tmp_path)


def test_a_mutant_is_applied_and_told_apart(tmp_path: Path) -> None:
    (tmp_path / "answer.py").write_text("ANSWER = 42\n")
    (tmp_path / "test_answer.py").write_text(
        "from answer import ANSWER\ndef test_it():\n    assert ANSWER > 40\n"
    )
    tests = ("test_answer.py::test_it",)
    found = mutants.Mutant(1, "enough", "answer.py", "42", "4", tests)
    assert mutants.try_mutant(tmp_path, found).is_found
    survives = mutants.Mutant(1, "a little", "answer.py", "42", "41", tests)
    assert mutants.try_mutant(tmp_path, survives).told.startswith("exit code 0")
    broken = mutants.Mutant(1, "the name", "answer.py", "ANSWER", "QUESTION", tests)
    assert not mutants.try_mutant(tmp_path, broken).is_found
    assert (tmp_path / "answer.py").read_text() == "ANSWER = 42\n"


def test_the_list_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert mutants.main(["--list", "--rule", "14"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("  14  ")
    assert "test_five_thousand_at_a_time_on_six_connections" in shown
    with pytest.raises(SystemExit):
        mutants.main(["--rule", "99"])
