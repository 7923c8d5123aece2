"""A new project by its own Makefile: a fresh environment, and nothing that runs.

It installs packages, so it belongs to `make test-rest`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.operator import operate
from tests.kit.environment import environment

INSTALL_S = 300.0


@pytest.mark.long
def test_a_fresh_project_builds_itself_and_passes(tmp_path: Path) -> None:
    made = operate(tmp_path, "new", "shop", "--fastapi")
    assert (made.code, made.err) == (0, "")
    env = environment({})
    # The project must find asyncjobs by itself, and needs no flag of the make that runs us.
    for name in ("PYTHONPATH", "PYTHONWARNINGS", "MAKEFLAGS", "MFLAGS", "VIRTUAL_ENV"):
        env.pop(name, None)
    done = subprocess.run(
        ["make", "test", f"PYTHON={sys.executable}"],
        cwd=tmp_path / "shop",
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout
