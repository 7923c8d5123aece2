"""Facts that the pages state in words, held against the code."""

from __future__ import annotations

import re
from pathlib import Path

from asyncjobs.cli.worker.serve import ExitCode
from asyncjobs.model.envelope import ENVELOPE_VERSION
from asyncjobs.model.headers import KEPT
from asyncjobs.model.job import Priority, State
from asyncjobs.options.app import AppSettings
from asyncjobs.policy.fairness import GUARD_ONE_IN
from asyncjobs.policy.suspects import WIDEST_AT_LEAST, SuspectBounds
from asyncjobs.store import SCHEMES
from asyncjobs.store.redis.layout import LAYOUT

ROOT = Path(__file__).resolve().parents[2]
MINUTE_MS, DAY_MS = 60_000, 86_400_000


def text(page: str) -> str:
    """A page with its lines joined."""
    return " ".join((ROOT / page).read_text().split())


def diagram_of(page: str) -> str:
    (diagram,) = re.findall(r"```mermaid(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    return str(diagram)


def test_the_diagram_names_every_state() -> None:
    diagram = diagram_of("docs/explanation/concepts.md")
    names = {*re.findall(r"(\w+) -->", diagram), *re.findall(r"--> (\w+):", diagram)}
    assert names == {str(state) for state in State}


def test_both_diagrams_have_the_same_arrows() -> None:
    arrows = [
        re.findall(r"(\S+) --> (\w+):", diagram_of(page))
        for page in ("docs/explanation/concepts.md", "docs/explanation/guarantees.md")
    ]
    assert arrows[0] == arrows[1]


def test_the_numbers_in_the_guarantees() -> None:
    settings, page = AppSettings(), text("docs/explanation/guarantees.md")
    assert f"`dead_max_age` ({settings.dead_max_age_ms // DAY_MS} days)" in page
    assert f"`dead_max_count` ({settings.dead_max_count:,})" in page
    assert f"| {settings.max_crashes} (`max_crashes`) |" in page
    first, *bounds, _ = SuspectBounds(1000, settings.max_crashes).by_crashes
    assert f"| 1 | {first}: a quarter of the slots, but at least {WIDEST_AT_LEAST} |" in page
    for crashes, together in enumerate(bounds, start=2):
        assert f"| {crashes} | {together} |" in page
    assert "one slot in twenty" in page
    assert GUARD_ONE_IN == 20
    assert settings.unknown_ttl_ms == DAY_MS


def test_the_priorities() -> None:
    names = ", ".join(priority.name.lower() for priority in sorted(Priority))
    for page in ("docs/guides/queues.md", "docs/explanation/concepts.md"):
        assert names.replace(", low", " and low") in text(page) or names in text(page)


def test_the_versions_of_what_is_stored() -> None:
    page = text("docs/guides/upgrading.md")
    assert f"The layout is at version {LAYOUT}, the envelope at version {ENVELOPE_VERSION}." in page


def test_the_exit_codes() -> None:
    page = (ROOT / "docs/reference/exit-codes.md").read_text()
    (table,) = re.findall(r"\| exit code \|.*?(?=\n\n)", page, re.DOTALL)
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)]
    assert codes == sorted(ExitCode)


def test_the_times_of_what_is_kept() -> None:
    settings, page = AppSettings(), text("docs/guides/security.md")
    assert f"`result_ttl` ({settings.result_ttl_ms // MINUTE_MS} minutes)" in page
    assert f"`id_ttl` ({settings.id_ttl_ms // MINUTE_MS} minutes)" in page
    assert f"`dead_max_age` ({settings.dead_max_age_ms // DAY_MS} days)" in page
    assert f"dead jobs keep them for {settings.dead_max_age_ms // DAY_MS} days" in text(
        "docs/guides/security.md"
    )


def test_the_errors_that_stay_with_a_job() -> None:
    number = {5: "five"}[KEPT]
    assert f"have the last {number} errors of a job" in text("docs/guides/retries.md")
    assert f"the last {number} errors of a job" in text("docs/guides/security.md")


def test_the_reference_has_every_kind_of_store() -> None:
    page = (ROOT / "docs/reference/stores.md").read_text()
    for scheme in SCHEMES:
        assert f"`{scheme}" in page, scheme
