"""The names of `asyncjobs.options` that other rooms import, until the rooms are moved."""

from asyncjobs.options.app import AppSettings
from asyncjobs.options.checks import (
    DEFAULT_QUEUE,
    TracingMode,
    check_job_id,
    check_queue_name,
    is_job_id,
    is_queue_name,
)
from asyncjobs.options.durations import parse_duration, parse_size

__all__ = [
    "DEFAULT_QUEUE",
    "AppSettings",
    "TracingMode",
    "check_job_id",
    "check_queue_name",
    "is_job_id",
    "is_queue_name",
    "parse_duration",
    "parse_size",
]
