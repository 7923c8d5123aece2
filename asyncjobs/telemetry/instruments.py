"""The table of metrics: their names, units, buckets and attributes.

Metrics are made from this table, and tools/telemetry_page.py writes docs/reference/telemetry.md
from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "ERROR",
    "FLEET",
    "FLOW_STATE",
    "JOB",
    "LIMIT",
    "OTHER",
    "OUTCOME",
    "QUEUE",
    "SCHEMA_URL",
    "STATE",
    "TICK",
    "WORKER",
]

SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.44.0"
OTHER: Final = "_OTHER"
"""Stands for a job function that this process does not have."""

SYSTEM: Final = "messaging.system"
OPERATION: Final = "messaging.operation.name"
TYPE: Final = "messaging.operation.type"
QUEUE: Final = "messaging.destination.name"
JOB: Final = "asyncjobs.job.name"
OUTCOME: Final = "asyncjobs.job.outcome"
TICK: Final = "asyncjobs.schedule.outcome"
ERROR: Final = "error.type"
STATE: Final = "asyncjobs.job.state"
LIMIT: Final = "asyncjobs.limit.name"
FLOW_STATE: Final = "asyncjobs.flow.state"

# From a no-op to a long job. Those up to 10 s are what OpenTelemetry advises for durations.
_SECONDS: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1.0,
    2.5,
    5.0,
    7.5,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
    3600.0,
)
_BYTES: Final = (
    128.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
)
_MESSAGING: Final = (SYSTEM, OPERATION, TYPE, QUEUE, JOB)

Kind = Literal["counter", "up_down_counter", "histogram", "gauge"]


@dataclass(frozen=True, slots=True)
class Instrument:
    """One metric. `buckets` are the advised boundaries of a histogram."""

    name: str
    kind: Kind
    unit: str
    text: str
    attributes: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


WORKER: Final = (
    Instrument(
        "messaging.client.operation.duration",
        "histogram",
        "s",
        "How long an enqueue took, as the caller of each job saw it.",
        (*_MESSAGING, ERROR),
        _SECONDS,
    ),
    Instrument(
        "messaging.client.sent.messages",
        "counter",
        "{message}",
        "Jobs enqueued, including those that were already there.",
        _MESSAGING,
    ),
    Instrument(
        "messaging.client.consumed.messages",
        "counter",
        "{message}",
        "Jobs that a worker took. Counts each time, even if the job could not run or was given "
        "back before it started.",
        _MESSAGING,
    ),
    Instrument(
        "messaging.process.duration",
        "histogram",
        "s",
        "How long an attempt ran.",
        (*_MESSAGING, OUTCOME, ERROR),
        _SECONDS,
    ),
    Instrument(
        "asyncjobs.job.queue_time",
        "histogram",
        "s",
        "How long a job was ready before it started, by the store's clock.",
        (QUEUE, JOB),
        _SECONDS,
    ),
    Instrument(
        "asyncjobs.jobs.finished",
        "counter",
        "{job}",
        "Jobs that ended for good: on a worker, or cancelled while they waited.",
        (QUEUE, JOB, OUTCOME, ERROR),
    ),
    Instrument(
        "asyncjobs.jobs.reclaimed",
        "counter",
        "{job}",
        "Jobs of other workers that this worker made ready again because a lease had ended.",
    ),
    Instrument(
        "asyncjobs.jobs.deduplicated",
        "counter",
        "{job}",
        "Enqueues that stored nothing because a job with that id was already there.",
        (QUEUE, JOB),
    ),
    Instrument(
        "asyncjobs.schedule.ticks",
        "counter",
        "{tick}",
        "Ticks of schedules that this worker handled: fired, missed or skipped.",
        (QUEUE, JOB, TICK),
    ),
    Instrument(
        "asyncjobs.schedule.lag",
        "histogram",
        "s",
        "How long after its tick the job of a schedule was stored, by the store's clock.",
        (QUEUE, JOB),
        _SECONDS,
    ),
    Instrument(
        "asyncjobs.jobs.active",
        "up_down_counter",
        "{job}",
        "Attempts that are running.",
        (QUEUE, JOB),
    ),
    Instrument(
        "asyncjobs.worker.slots",
        "up_down_counter",
        "{job}",
        "Attempts that may run at the same time.",
    ),
    Instrument(
        "asyncjobs.worker.event_loop.lag",
        "histogram",
        "s",
        "How late the event loop ran a timer. Measured twice a second.",
        (),
        _SECONDS,
    ),
    Instrument(
        "asyncjobs.payload.size",
        "histogram",
        "By",
        "Size of an enqueued job, as stored.",
        (QUEUE, JOB),
        _BYTES,
    ),
)
"""The metrics of each process that enqueues jobs or runs a worker."""

FLEET: Final = (
    Instrument(
        "asyncjobs.queue.jobs",
        "gauge",
        "{job}",
        "Jobs in the queue.",
        (QUEUE, STATE),
    ),
    Instrument(
        "asyncjobs.queue.oldest_age",
        "gauge",
        "s",
        "How long the oldest ready job has been ready; 0 if no job is ready.",
        (QUEUE,),
    ),
    Instrument(
        "asyncjobs.scheduler.lag",
        "gauge",
        "s",
        "How long the first scheduled job is overdue; 0 if none is.",
        (QUEUE,),
    ),
    Instrument(
        "asyncjobs.queue.paused",
        "gauge",
        "{queue}",
        "1 while the whole queue is paused, so that no job of it is handed out; else 0.",
        (QUEUE,),
    ),
    Instrument(
        "asyncjobs.outbox.entries",
        "gauge",
        "{entry}",
        "Entries of the queue's outbox: what has not come to other queues, or came there only now.",
        (QUEUE,),
    ),
    Instrument(
        "asyncjobs.outbox.oldest_age",
        "gauge",
        "s",
        "How long the oldest entry that has not come to its queue has waited; 0 if none waits.",
        (QUEUE,),
    ),
    Instrument(
        "asyncjobs.flows",
        "gauge",
        "{flow}",
        "Flows that are kept, by the queue that is their home.",
        (QUEUE, FLOW_STATE),
    ),
    Instrument(
        "asyncjobs.limit.running",
        "gauge",
        "{job}",
        "Permits of the limit that are taken, under all of its keys.",
        (QUEUE, LIMIT),
    ),
    Instrument(
        "asyncjobs.limit.parked",
        "gauge",
        "{job}",
        "Jobs that wait for room at the limit, under all of its keys.",
        (QUEUE, LIMIT),
    ),
    Instrument(
        "asyncjobs.limit.oldest_parked",
        "gauge",
        "s",
        "How long the oldest of them has waited; 0 if none waits.",
        (QUEUE, LIMIT),
    ),
)
"""The metrics of `asyncjobs exporter`, which reports them once for all processes."""
