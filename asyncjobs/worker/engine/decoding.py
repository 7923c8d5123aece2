"""Makes a taken job an attempt that can run, or a settlement that says why it cannot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from asyncjobs.jobs.function import JobFunction
from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.flow_mark import REFERENCES
from asyncjobs.model.headers import NO_HEADERS, has_header
from asyncjobs.model.job import TakenJob
from asyncjobs.model.settlement import Settlement
from asyncjobs.options.checks import MAX_NAME
from asyncjobs.worker.engine.attempt import Attempt, Crew
from asyncjobs.worker.engine.resolving import Dependent, dependent
from asyncjobs.worker.engine.unstarted import Unstarted

__all__ = ["Find", "decode"]

Find = Callable[[str], JobFunction[..., Any] | None]
"""Finds the job function of this name; None when it is not known here."""


def decode(
    find: Find,
    crew: Crew,
    unstarted: Unstarted,
    job: TakenJob,
    now_ms: int,
) -> Attempt | Dependent | Settlement:
    """The attempt of this job. `now_ms`: by the store's clock.

    A job that cannot run is settled at once. It is put back if another worker may know its
    function, otherwise it ends.
    """
    try:
        try:
            envelope = Envelope.decode(job.envelope)
        except NewerEnvelope as error:
            # rule:13 a job with a newer envelope is put back
            return unstarted.unknown(job, "", str(error), now_ms)
        function = find(name := envelope.name)
        if function is None:
            if len(name) > MAX_NAME:
                raise BadRecord(f"the name of its function has {len(name):,} characters")
            return unstarted.unknown(job, name, f"no job function {name!r} here", now_ms)
        attempt = Attempt(job, envelope, function, crew, now_ms)
        # rule:7 the sixth crash makes a job dead
        if attempt.crashes >= crew.settings.max_crashes:
            return unstarted.crashed(attempt)
        if envelope.expires_ms is not None and attempt.is_too_late(now_ms):
            return unstarted.expired(attempt)
        if envelope.headers is not NO_HEADERS and has_header(envelope.headers, REFERENCES):
            return dependent(attempt, crew.store)
    # rule:15 whatever is raised while a job is decoded costs that job
    except Exception as error:
        # Somebody may have stored anything, and our reader may have a fault. That may cost this
        # job. Raised from here it would end the worker, and then the next one that takes the job.
        return unstarted.unreadable(job, error)
    return attempt
