"""The rules: something of Celery, and what it becomes here. Each is a row in `rules/`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from importlib.resources import files
from typing import Any, Final, NamedTuple

__all__ = ["ANY", "OLD_NAMES", "RULES", "Rule", "Rules", "Verdict"]

ANY: Final = "*"
"""The name of the rule for what no other rule of its kind names."""


class Verdict(StrEnum):
    """How something of Celery gets here."""

    MOVES = "moves"
    NEEDS_HAND = "needs-hand"
    NO_EQUAL = "no-equal"

    @property
    def words(self) -> str:
        """The verdict as a heading."""
        return _WORDS[self]


_WORDS: Final = {
    Verdict.MOVES: "moves by itself",
    Verdict.NEEDS_HAND: "needs a hand",
    Verdict.NO_EQUAL: "has no equal here",
}


class Rule(NamedTuple):
    """What something of Celery becomes here.

    kind: which use of the names it is about, such as `task-option` or `setting`.
    names: the names in Celery. One may be a pattern with `*`.
    here: what to write instead, or why it needs no change.
    docs: where to read on, a path below docs/ with an anchor if need be.
    title: how a use is shown, with its name at `{}`.
    """

    kind: str
    names: tuple[str, ...]
    verdict: Verdict
    here: str
    docs: str
    title: str = "{}"

    def shown(self, names: Iterable[str]) -> str:
        """The uses of these names for people, the first three of them."""
        found = list(dict.fromkeys(names))
        texts = [self.title.format(name) for name in found[:3]]
        if len(found) > 3:
            texts.append("…")
        return ", ".join(texts)

    @property
    def id(self) -> str:
        """A name for programs, which stays the same: kind and first name."""
        return f"{self.kind}:{self.names[0]}"


class Rules:
    """All rules, found by kind and name."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.all = tuple(rules)
        self._exact: dict[tuple[str, str], Rule] = {}
        self._patterns: dict[str, list[tuple[str, Rule]]] = {}
        for rule in self.all:
            for name in rule.names:
                if ANY in name:
                    self._patterns.setdefault(rule.kind, []).append((name, rule))
                else:
                    self._exact[rule.kind, name] = rule

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.all)

    def find(self, kind: str, names: Sequence[str]) -> Rule | None:
        """The rule for the first of these names that has one of its own; patterns come after the
        names without, and `*` last. None if the kind has no rule for what it does not know."""
        for name in names:
            rule = self._exact.get((kind, name))
            if rule is not None:
                return rule
        # A pattern is for names that have no row of their own.
        patterns = self._patterns.get(kind, [])
        for name in names:
            for pattern, rule in patterns:
                if pattern != ANY and fnmatchcase(name, pattern):
                    return rule
        return next((rule for pattern, rule in patterns if pattern == ANY), None)

    def knows(self, kind: str, name: str) -> bool:
        """Whether a rule names it, by itself or by a pattern."""
        rule = self.find(kind, [name])
        return rule is not None and rule.names != (ANY,)


def _tables() -> dict[str, Any]:
    """What the files of `rules/` say, by kind."""
    found: dict[str, Any] = {}
    for file in files("asyncjobs.cli.celery").joinpath("rules").iterdir():
        # An editor may leave files of its own beside them.
        if file.name.endswith(".toml"):
            found |= tomllib.loads(file.read_text("utf-8"))
    return found


def _rules_of(tables: Mapping[str, Any]) -> Iterator[Rule]:
    for kind, table in tables.items():
        for row in table["rules"]:
            names = tuple(row["names"])
            verdict = Verdict(row["verdict"])
            yield Rule(kind, names, verdict, row["here"], row["docs"], table["title"])


_TABLES: Final = _tables()
OLD_NAMES: Final[Mapping[str, str]] = _TABLES.pop("old-names")
"""Older names of settings, with those of today."""
RULES: Final = Rules(_rules_of(_TABLES))
