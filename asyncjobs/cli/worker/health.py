"""The health of `asyncjobs worker`: of a single process, or of a parent and its processes."""

from __future__ import annotations

import os

from asyncjobs.host.health.condition import Condition, Look, Vitals
from asyncjobs.host.health.fleet import FleetVitals
from asyncjobs.host.health.health import Health, HealthOptions
from asyncjobs.host.health.systemd import Systemd
from asyncjobs.host.pulse import Pulse
from asyncjobs.host.supervisor.link import ParentLink
from asyncjobs.host.supervisor.supervisor import Supervisor
from asyncjobs.worker.worker import Worker

__all__ = ["ParentHealth", "WorkerHealth"]


class _Reports:
    """Sends the condition of this process to its parent."""

    def __init__(self, parent: ParentLink) -> None:
        self._parent = parent

    def tell(self, condition: Condition) -> None:
        self._parent.report({"live": condition.live, "ready": condition.ready})

    def close(self) -> None:
        """Nothing to close: the parent link owns the pipe."""


class WorkerHealth(Health):
    """The health of the worker in this process.

    With a parent, it is reported to the parent only, which answers the probes for all processes.
    """

    def __init__(self, options: HealthOptions, worker: Worker, parent: ParentLink | None) -> None:
        self._worker = worker
        self._vitals: Vitals | None = None
        if parent is None:
            systemd = Systemd.take(os.environ, os.getpid())
            super().__init__(options, self._new_look, systemd=systemd)
        else:
            others = []
            # A parent that answers no probes wants no reports, and reads none.
            if parent.reports:
                others.append(_Reports(parent))
            super().__init__(HealthOptions(), self._new_look, others=others)

    def _new_look(self, pulse: Pulse, live_s: float) -> Look:
        worker = self._worker
        self._vitals = Vitals(
            pulse, worker.name, worker.unready, lambda: worker.is_stopping, live_s
        )
        return self._vitals.look

    def note_started(self) -> None:
        """The worker has registered and takes jobs."""
        if self._vitals is not None:
            self._vitals.has_started = True
            self.wake()


class ParentHealth(Health):
    """The health of a parent and its processes, as one.

    To be made before a process is started: it takes systemd's variables out of the environment, and
    a child that inherited them would report to systemd, too.
    """

    def __init__(self, options: HealthOptions, name: str) -> None:
        systemd = Systemd.take(os.environ, os.getpid())
        super().__init__(options, self._new_look, systemd=systemd)
        self._name = name
        self.supervisor: Supervisor | None = None
        """Set before the health starts."""
        self.is_wanted = systemd is not None or options != HealthOptions(host=options.host)

    def _new_look(self, pulse: Pulse, live_s: float) -> Look:
        assert self.supervisor is not None
        return FleetVitals(pulse, self.supervisor, self._name, live_s).look
