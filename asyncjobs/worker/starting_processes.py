"""Starts the processes for attempts of a worker, if its app has job functions that need them."""

from __future__ import annotations

from asyncjobs.guard.guarded import GuardedLog
from asyncjobs.guard.own import in_own_thread
from asyncjobs.jobs.isolation import Isolation
from asyncjobs.worker.engine.processes import here
from asyncjobs.worker.engine.processes.cores import available_cores
from asyncjobs.worker.engine.processes.executor import Processes
from asyncjobs.worker.engine.processes.origin import origin_of
from asyncjobs.worker.settings import App, WorkerSettings, queues_with

__all__ = ["processes_of"]

logger = GuardedLog("asyncjobs.worker")


async def processes_of(app: App, settings: WorkerSettings) -> Processes | None:
    """The executor of functions with `isolation="process"`; None if the app has none.

    Raises ConfigError if another process cannot import them.
    """
    functions = [each for each in app.registry.functions() if each.isolation is Isolation.PROCESS]
    if not functions:
        return None
    queues = queues_with(Isolation.PROCESS, app.registry, settings.queues)
    origin = await in_own_thread(origin_of, app, app.registry)
    most = settings.job_processes
    if most is None:
        # It reads files of the system.
        most = await in_own_thread(available_cores)
    # As many children wait as may run, so that a burst finds each of them ready.
    processes = Processes(origin, most, queues, app.settings.max_result)
    if queues and not here.LINUX and any(each.settings.max_memory for each in functions):
        logger.warning("max_memory has no effect: only Linux can limit the memory of a process")
    # Jobs may be enqueued to other queues than their function's. Then it starts with the first.
    if queues:
        try:
            await processes.start()
        except BaseException:
            await processes.close()
            raise
    return processes
