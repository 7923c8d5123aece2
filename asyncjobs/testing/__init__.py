"""Tests of programs that use asyncjobs: fixtures for pytest, assertions, a worker and a clock.

docs/guides/testing.md shows them. `asyncjobs.testing.conformance` is the suite for stores of your
own, `asyncjobs.testing.servers` starts real servers.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from unittest.mock import ANY

    from asyncjobs.testing.asserting import (
        assert_enqueued,
        drain,
        drain_sync,
        perform,
        perform_sync,
        refute_enqueued,
    )
    from asyncjobs.testing.calls import EnqueuedCall
    from asyncjobs.testing.clock import VirtualClock
    from asyncjobs.testing.interrupting import Interruption, interrupt_at
    from asyncjobs.testing.matching import Subset
    from asyncjobs.testing.outcomes import Drained, Performed
    from asyncjobs.testing.recorder import Recorder
    from asyncjobs.testing.stage import Stage, staged
    from asyncjobs.testing.worker import StageWorker

__all__ = [
    "ANY",
    "Drained",
    "EnqueuedCall",
    "Interruption",
    "Performed",
    "Recorder",
    "Stage",
    "StageWorker",
    "Subset",
    "VirtualClock",
    "assert_enqueued",
    "drain",
    "drain_sync",
    "interrupt_at",
    "perform",
    "perform_sync",
    "refute_enqueued",
    "staged",
]

_HOMES: Final = {
    "ANY": "unittest.mock",
    "Drained": "asyncjobs.testing.outcomes",
    "EnqueuedCall": "asyncjobs.testing.calls",
    "Interruption": "asyncjobs.testing.interrupting",
    "Performed": "asyncjobs.testing.outcomes",
    "Recorder": "asyncjobs.testing.recorder",
    "Stage": "asyncjobs.testing.stage",
    "StageWorker": "asyncjobs.testing.worker",
    "Subset": "asyncjobs.testing.matching",
    "VirtualClock": "asyncjobs.testing.clock",
    "interrupt_at": "asyncjobs.testing.interrupting",
    "staged": "asyncjobs.testing.stage",
}


def __getattr__(name: str) -> Any:
    # pytest imports this package at each start, for its plugin. A run that tests no jobs must not
    # wait for the worker's modules.
    if name not in __all__:
        raise AttributeError(f"module 'asyncjobs.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "asyncjobs.testing.asserting")), name)
