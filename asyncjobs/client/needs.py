"""What the job functions of an app need of its store, checked when that is opened."""

from __future__ import annotations

from typing import Final

from asyncjobs.jobs.registry import JobRegistry
from asyncjobs.store.checks import check_needs
from asyncjobs.store.seam import Backend

__all__ = ["check_store"]

SCHEDULE_NEEDS: Final = {"cron or every": "schedules"}
"""The capability that a store must have for schedules."""


def check_store(registry: JobRegistry, backend: Backend) -> None:
    """Raises MissingCapability for a store that cannot keep what a job function needs, and
    RegistrationError for an annotation that nobody knows to store."""
    for function in registry.functions():
        check_needs(function.name, function.needs, backend)
        # Again, for classes that were not known yet when the function was registered.
        function.read_types()
    # A schedule without its @app.job raises here, too: every module has been imported by now.
    for schedule in registry.schedules():
        check_needs(schedule.function.name, SCHEDULE_NEEDS, backend)
