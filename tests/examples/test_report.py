"""examples/report: a whole run, on a store in memory."""

from __future__ import annotations

import subprocess
import sys

from tests.kit.environment import LIMIT_S, ROOT, environment

EXAMPLE = ROOT / "examples" / "report"


def test_a_run_prints_the_report_and_its_nodes() -> None:
    ran = subprocess.run(
        [sys.executable, str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env=environment({}),
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    shown = (EXAMPLE / "README.md").read_text().rpartition("```\nBest")[2].partition("```")[0]
    assert ran.stdout == f"Best{shown}"
