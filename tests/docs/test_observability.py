"""What the page on observability shows and no test can run: it must fit what is exported."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "guides" / "observability.md").read_text(encoding="utf-8")
REFERENCE = (ROOT / "docs" / "reference" / "telemetry.md").read_text(encoding="utf-8")
DASHBOARD: dict[str, Any] = json.loads(
    (ROOT / "examples" / "grafana" / "asyncjobs.json").read_text(encoding="utf-8")
)
EXPORTED = set(re.findall(r"\| `(\w+)` \|$", REFERENCE, re.MULTILINE))
LABELS = {
    name.replace(".", "_") for name in re.findall(r"`([a-z_]+(?:\.[a-z_]+)+)`", REFERENCE)
} | {"le", "instance"}
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
_METRIC = re.compile(r"\b((?:asyncjobs|messaging)_\w+?)(?:_bucket)?(?=[{\[)])")


def test_the_reference_says_how_metrics_are_called_in_prometheus() -> None:
    assert {"asyncjobs_queue_jobs", "messaging_process_duration_seconds"} <= EXPORTED


@pytest.mark.parametrize("query", QUERIES)
def test_the_dashboard_asks_for_what_is_exported(query: str) -> None:
    labels = set(re.findall(r"(\w+)=~?\"", query))
    for names in re.findall(r"by \(([^)]*)\)", query):
        labels |= {name.strip() for name in names.split(",")}
    assert labels <= LABELS
    metrics = set(_METRIC.findall(re.sub(r"by \([^)]*\)", "", query)))
    assert metrics
    assert metrics <= EXPORTED


def test_each_panel_has_a_place_of_its_own() -> None:
    places = [(p["gridPos"]["x"], p["gridPos"]["y"]) for p in DASHBOARD["panels"]]
    assert len(set(places)) == len(places) == 10


def test_queries_on_the_page_name_what_is_exported() -> None:
    named = set(re.findall(r"\b((?:asyncjobs|messaging)_\w+?)(?:_count)?(?=[`({\[)])", PAGE))
    assert {"asyncjobs_jobs_finished_total", "asyncjobs_queue_oldest_age_seconds"} <= named
    assert named <= EXPORTED


def test_the_collector_reads_the_ports_that_the_page_opens() -> None:
    targets = re.search(r"targets: \[(.*)\]", PAGE)
    assert targets is not None
    ports = re.findall(r":(\d+)", targets[1])
    assert ports == re.findall(r"(?:--metrics-port|exporter --port) (\d+)", PAGE)[:2]
