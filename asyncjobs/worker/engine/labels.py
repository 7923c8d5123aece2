"""What log lines and events say of a job that has no attempt: its function, and its fields."""

from __future__ import annotations

from typing import Any

from asyncjobs.model.codec import BadRecord
from asyncjobs.model.envelope import Envelope, NewerEnvelope
from asyncjobs.model.job import TakenJob
from asyncjobs.options.checks import MAX_NAME

__all__ = ["call_of", "label_of"]


def call_of(job: TakenJob) -> tuple[str, int]:
    """The name of the job's function and the number of its attempt; ('', 1) if the job cannot be
    read."""
    try:
        envelope = Envelope.decode(job.envelope)
    except (BadRecord, NewerEnvelope):
        return "", 1
    # A stranger may have stored a longer name: it must not fill the log.
    return envelope.name[:MAX_NAME], envelope.attempt


def label_of(job: TakenJob, name: str = "", attempt: int | None = None) -> dict[str, Any]:
    """The fields of a log line about a job, as far as they are known."""
    fields = {"job_id": job.id, "job": name or None, "queue": job.queue, "attempt": attempt}
    return {key: value for key, value in fields.items() if value is not None}
