"""Celery's names over job functions: `delay`, `apply_async`, canvas, results.

    from asyncjobs import AsyncJobs
    from asyncjobs.compat.celery import Celery

    jobs = AsyncJobs()
    app = Celery(jobs)

    @app.task
    def add(a: int, b: int) -> int:
        return a + b

    add.delay(1, 2).get(timeout=10)

For code that moves from Celery file by file. What keeps its meaning is here. What does not raises a
ConfigError that says what to write instead. docs/coming-from/celery.md has the whole way.
"""

from asyncjobs.compat.celery.app import Celery, shared_task, shared_tasks
from asyncjobs.compat.celery.canvas import Canvas, Signature, chain, chord, group
from asyncjobs.compat.celery.options import FROM_RABBITMQ, FROM_REDIS, ApplyOptions, TaskOptions
from asyncjobs.compat.celery.result import CeleryFlowResult, CeleryResult
from asyncjobs.compat.celery.task import CeleryTask, celery_like

__all__ = [
    "FROM_RABBITMQ",
    "FROM_REDIS",
    "ApplyOptions",
    "Canvas",
    "Celery",
    "CeleryFlowResult",
    "CeleryResult",
    "CeleryTask",
    "Signature",
    "TaskOptions",
    "celery_like",
    "chain",
    "chord",
    "group",
    "shared_task",
    "shared_tasks",
]
