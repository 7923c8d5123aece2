"""How a worker learns that its jobs wait for the results of others."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from contextvars import ContextVar
from typing import Any

from asyncjobs.model.refs import JobRef

__all__: list[str] = []

_result_waits: ContextVar[Callable[[Any, JobRef], AbstractContextManager[None]]]
_result_waits = ContextVar("asyncjobs_result_waits")
"""Set by a worker for its jobs. A job that waits for the result of another job enters it, so that
the worker knows which jobs wait."""
