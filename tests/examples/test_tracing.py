"""examples/tracing: the traces that its README shows come of a whole run."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.kit.environment import ROOT

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="no OTLP exporter here")

EXAMPLE = ROOT / "examples" / "tracing"
LIMIT_S = 120


def test_the_traces_are_those_of_its_readme() -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=LIMIT_S, cwd=ROOT
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    (shown,) = re.findall(
        r"^\$ python examples/tracing\n(.*?)^```$",
        (EXAMPLE / "README.md").read_text(),
        re.MULTILINE | re.DOTALL,
    )
    assert run.stdout == shown
    page = (ROOT / "docs" / "guides" / "observability.md").read_text(encoding="utf-8")
    (drawn,) = re.findall(r"^```text\n(trace 1.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert run.stdout.endswith(drawn)
