"""The seam, to be imported from one place; each name is defined in the module of its subject."""

from __future__ import annotations

from asyncjobs.backends.answers import (
    CancelCall,
    CancelVerdict,
    Enqueued,
    Exchange,
    Heartbeat,
    Parked,
    Placed,
    QueueChanged,
    ReclaimDue,
    Reclaimed,
    Registered,
    Resync,
    Signal,
    StaleSequence,
)
from asyncjobs.backends.inspect import (
    Finding,
    Inspection,
    Leftover,
    QueueCounts,
    QueueFlow,
    QueueInspection,
    Survey,
    Verdict,
    WorkerEntry,
)
from asyncjobs.backends.lease import (
    Lease,
    LeaseSpec,
    Offer,
)
from asyncjobs.backends.letters import (
    DeadLetters,
)
from asyncjobs.backends.seam import (
    Backend,
    Capabilities,
    Clock,
    EnqueueBatch,
    StoreInfo,
    StoreSettings,
)
from asyncjobs.job import Demand

__all__ = [
    "Backend",
    "CancelCall",
    "CancelVerdict",
    "Capabilities",
    "Clock",
    "DeadLetters",
    "Demand",
    "EnqueueBatch",
    "Enqueued",
    "Exchange",
    "Finding",
    "Heartbeat",
    "Inspection",
    "Lease",
    "LeaseSpec",
    "Leftover",
    "Offer",
    "Parked",
    "Placed",
    "QueueChanged",
    "QueueCounts",
    "QueueFlow",
    "QueueInspection",
    "ReclaimDue",
    "Reclaimed",
    "Registered",
    "Resync",
    "Signal",
    "StaleSequence",
    "StoreInfo",
    "StoreSettings",
    "Survey",
    "Verdict",
    "WorkerEntry",
]
