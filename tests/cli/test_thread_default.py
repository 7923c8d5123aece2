"""How many threads sync functions have unless told otherwise."""

from __future__ import annotations

import inspect

from asyncjobs import Worker
from asyncjobs.cli.command import cli

MEASURED = 16
"""With more, the event loop waits too long for its turn; see docs/explanation/performance.md."""


def test_flag_and_worker_have_the_number_that_was_measured() -> None:
    (flag,) = [param for param in cli.commands["worker"].params if param.name == "threads"]
    default = inspect.signature(Worker).parameters["threads"].default
    assert (flag.default, default) == (MEASURED, MEASURED)
