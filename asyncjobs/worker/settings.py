"""What a worker needs from its app, and its own settings, checked once."""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Protocol

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.jobs.function import JobFunction
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.jobs.middleware import Middlewares
from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.model import events
from asyncjobs.model.clock import Seconds, seconds
from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import check_queue_name
from asyncjobs.store.seam import Backend

__all__ = ["App", "Queues", "WorkerSettings", "bounded_queues", "checked_count", "queues_with"]

SHORTEST_S: Final = 0.05
"""The shortest limit for the event loop. An ordinary turn of the loop would break a shorter one."""

Queues = str | Iterable[str] | Mapping[str, int]


class App(Protocol):
    """What a worker needs from an app. AsyncJobs is one, but it is above this room."""

    settings: AppSettings
    registry: JobRegistry
    events: events.Events
    middlewares: Middlewares

    @property
    def backend(self) -> Backend: ...

    async def __aenter__(self) -> Any: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The settings of a `Worker`. Times are in seconds, None turns a setting off."""

    queues: dict[str, int]
    concurrency: int
    threads: int
    job_processes: int | None
    name: str
    grace_s: float
    lease_ms: int
    block_warning_s: float | None
    hard_limit_s: float | None
    stuck_after_s: float | None

    @classmethod
    def of(
        cls,
        app: App,
        queues: Queues | None,
        name: str | None,
        *,
        concurrency: int,
        threads: int,
        job_processes: int | None,
        grace: Seconds,
        lease: Seconds,
        block_warning: Seconds | None,
        hard_limit: Seconds | None,
        stuck_after: Seconds | None,
    ) -> WorkerSettings:
        """Raises ConfigError naming the setting."""
        settings = cls(
            queues=_weights(app, queues),
            concurrency=checked_count(concurrency, "concurrency"),
            threads=checked_count(threads, "threads"),
            job_processes=_job_processes(job_processes),
            name=name or f"{socket.gethostname()}:{os.getpid()}",
            grace_s=seconds(grace, field="grace"),
            lease_ms=round(seconds(lease, field="lease", minimum=1) * 1000),
            block_warning_s=_limit(block_warning, "block_warning"),
            hard_limit_s=_limit(hard_limit, "hard_limit"),
            stuck_after_s=_limit(stuck_after, "stuck_after"),
        )
        warning_s = settings.block_warning_s
        limit_s = settings.hard_limit_s
        # The process ends at the hard limit: a warning that comes later would never be seen.
        if warning_s is not None and limit_s is not None and limit_s <= warning_s:
            raise ConfigError(
                f"hard_limit={limit_s:g} s must be longer than block_warning={warning_s:g} s; "
                "give a longer one, or None to turn it off"
            )
        return settings


def queues_with(
    isolation: Isolation, registry: JobRegistry, queues: Collection[str]
) -> dict[str, bool]:
    """The queues with job functions of this isolation, and whether they have no others."""
    kinds: dict[str, set[Isolation]] = {}
    for function in registry.functions():
        kind = function.isolation
        if function.batch is not None:
            # One thread serves a whole batch, so its jobs need not wait in the store for one each.
            kind = Isolation.LOOP
        for queue in function.settings.queues:
            kinds.setdefault(queue, set()).add(kind)
    return {
        queue: kinds[queue] == {isolation} for queue in queues if isolation in kinds.get(queue, ())
    }


def bounded_queues(registry: JobRegistry, queues: Collection[str]) -> dict[str, dict[str, int]]:
    """The queues whose job functions all have `max_running`, with these by name."""
    bounds: dict[str, dict[str, int | None]] = {}
    for function in registry.functions():
        for queue in function.settings.queues:
            bounds.setdefault(queue, {})[function.name] = _most_jobs(function)
    found: dict[str, dict[str, int]] = {}
    for queue in queues:
        known = {name: most for name, most in bounds.get(queue, {}).items() if most is not None}
        if known and len(known) == len(bounds[queue]):
            found[queue] = known
    return found


def _most_jobs(function: JobFunction[..., Any]) -> int | None:
    """How many of its jobs may run at a time here. `max_running` counts calls, and a call of a
    batch consumer serves many."""
    if function.max_running is None or function.batch is None:
        return function.max_running
    return function.max_running * function.batch.size


def checked_count(value: int, field: str) -> int:
    """`value`, if it is a whole number of at least 1. Raises ConfigError that names `field`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{field} must be a whole number of at least 1, not {shown(value)}")
    return value


def _job_processes(value: int | None) -> int | None:
    if value is None:
        return None
    return checked_count(value, "job_processes")


def _limit(value: Seconds | None, field: str) -> float | None:
    if value is None:
        return None
    return seconds(value, field=field, minimum=SHORTEST_S)


def _weights(app: App, queues: Queues | None) -> dict[str, int]:
    if queues is None:
        every = {*app.registry.queues(), app.settings.default_queue}
        weights: dict[str, int] = dict.fromkeys(sorted(every), 1)
    elif isinstance(queues, Mapping):
        weights = dict(queues)
    elif isinstance(queues, Iterable):
        # A text is iterable, too, and would be taken for names of one letter each.
        names = [queues] if isinstance(queues, str) else list(queues)
        weights = {check_queue_name(name, field="queues"): 1 for name in names}
    else:
        raise ConfigError(f"queues must be names or a mapping to weights, not {shown(queues)}")
    if not weights:
        raise ConfigError("queues is empty; name at least one, or leave it out")
    for queue, weight in weights.items():
        check_queue_name(queue, field="queues")
        checked_count(weight, f"the weight of queue {queue!r}")
    return weights
