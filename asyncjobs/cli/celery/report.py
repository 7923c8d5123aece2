"""What was found, by rules and files: for people as tables, for programs as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from asyncjobs.cli.celery.files import Skipped
from asyncjobs.cli.celery.rule import RULES, Rule, Verdict
from asyncjobs.cli.celery.sighting import Sighting
from asyncjobs.cli.shared.render import Part, Table, clean, paint
from asyncjobs.cli.shared.values import count

__all__ = ["Place", "Report"]

_COLORS = {Verdict.MOVES: "green", Verdict.NEEDS_HAND: "yellow", Verdict.NO_EQUAL: "red"}


class Place(NamedTuple):
    """A use of Celery, and the rule for it."""

    rule: Rule
    sighting: Sighting

    @property
    def title(self) -> str:
        """The use, for people."""
        return clean(self.rule.shown([self.sighting.name]))


class Report:
    """All that was found in one code base."""

    def __init__(
        self, sightings: Iterable[Sighting], skipped: Sequence[Skipped], files: int
    ) -> None:
        """`files`: how many files were read."""
        self.skipped = skipped
        self.files = files
        self.places: list[Place] = []
        seen: set[tuple[str, int, str]] = set()
        for sighting in sightings:
            rule = RULES.find(sighting.kind, sighting.names)
            if rule is None:
                continue
            # Rules are counted by lines, as people look at them.
            # A line with two uses of one rule is one place to look at.
            key = (sighting.path, sighting.line, rule.id)
            if key not in seen:
                seen.add(key)
                self.places.append(Place(rule, sighting))

    @property
    def unread(self) -> list[Skipped]:
        """Python files that were not read: nobody knows what is in them."""
        return [each for each in self.skipped if ".py" in each.path]

    @property
    def is_clear(self) -> bool:
        """Whether all that was found moves by itself, and every Python file was read."""
        # What nobody has read may be anything.
        moves = all(place.rule.verdict is Verdict.MOVES for place in self.places)
        return moves and not self.unread

    def by_verdict(self, verdict: Verdict) -> list[Place]:
        return [place for place in self.places if place.rule.verdict is verdict]

    def fields(self, only: Verdict | None) -> dict[str, Any]:
        """The report as JSON; only places with this verdict, if one is given."""
        return {
            "clear": self.is_clear,
            "files": self.files,
            "counts": {verdict.value: len(self.by_verdict(verdict)) for verdict in Verdict},
            "rules": [
                {
                    "id": rule.id,
                    "verdict": rule.verdict.value,
                    "celery": _title(rule, places),
                    "here": rule.here,
                    "docs": f"docs/{rule.docs}",
                    "places": [_place(each.sighting) for each in places],
                }
                for rule, places in self._rules(only)
            ],
            "skipped": [{"path": each.path, "why": each.why} for each in self.skipped],
        }

    def parts(self, only: Verdict | None) -> list[Part]:
        """The report for people."""
        parts: list[Part] = []
        for verdict in Verdict:
            if only not in (None, verdict) or not self.by_verdict(verdict):
                continue
            heading = f"{verdict.words}: {count(len(self.by_verdict(verdict)), 'place')}"
            rules = self._rules(verdict)
            parts += [paint(heading, _COLORS[verdict]), _what(rules), "", _where(rules), ""]
        if self.skipped:
            rows = [(clean(each.path), clean(each.why)) for each in self.skipped]
            parts += [paint("not read", "yellow"), Table(("file", "why"), rows), ""]
        parts.append(self._last_line())
        return parts

    def _rules(self, only: Verdict | None) -> list[tuple[Rule, list[Place]]]:
        """The rules with their places, those with most places first."""
        grouped: dict[str, list[Place]] = {}
        for place in self.places:
            if only in (None, place.rule.verdict):
                grouped.setdefault(place.rule.id, []).append(place)
        found = [(places[0].rule, places) for places in grouped.values()]
        found.sort(key=lambda each: (list(Verdict).index(each[0].verdict), -len(each[1])))
        return found

    def _last_line(self) -> str:
        read = f"{count(self.files, 'file')} read"
        if not self.places:
            return f"{read}: no Celery found"
        moving = len(self.by_verdict(Verdict.MOVES))
        by_hand = len(self.by_verdict(Verdict.NEEDS_HAND))
        without = len(self.by_verdict(Verdict.NO_EQUAL))
        share = f"{moving:,} of {count(len(self.places), 'place')} move by themselves"
        unread = ""
        if self.unread:
            unread = f", {count(len(self.unread), 'Python file')} not read"
        if self.is_clear:
            return paint(f"{read}: {share}", "green")
        verdict = f"{by_hand:,} need a hand, {without:,} have no equal here{unread}"
        return paint(f"{read}: {share}, {verdict}", "yellow")


def _what(rules: Sequence[tuple[Rule, list[Place]]]) -> Table:
    rows = [
        (_title(rule, places), f"{len(places):,}", rule.here, f"docs/{rule.docs}")
        for rule, places in rules
    ]
    return Table(("in Celery", "places", "here", "read on"), rows, frozenset({"places"}))


def _where(rules: Sequence[tuple[Rule, list[Place]]]) -> Table:
    rows = []
    for _, places in rules:
        for place in places:
            sighting = place.sighting
            where = clean(sighting.where)
            if not sighting.certain:
                where += " (by its name)"
            rows.append((clean(f"{sighting.path}:{sighting.line}"), place.title, where.strip()))
    return Table(("place", "in Celery", "in"), rows)


def _title(rule: Rule, places: Sequence[Place]) -> str:
    """All uses that fell under the rule."""
    return clean(rule.shown(place.sighting.name for place in places))


def _place(sighting: Sighting) -> dict[str, Any]:
    return {
        "path": sighting.path,
        "line": sighting.line,
        "name": sighting.name,
        "in": sighting.where,
        "certain": sighting.certain,
    }
