"""Where programs under test find the package, and for how long a test waits for them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import asyncjobs

ROOT = Path(asyncjobs.__file__).resolve().parent.parent
LIMIT_S = 30.0
"""How long a test waits for what must happen; reached only when it fails."""


def environment(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's, without what would change a worker's flags or colors."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ASYNCJOBS_", "NO_COLOR", "FORCE_COLOR"))
    }
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TERM": "xterm", **extra}
