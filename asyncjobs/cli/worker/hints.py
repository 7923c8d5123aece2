"""What looks wrong about an app when its worker starts. Each hint is a warning in the log."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from asyncjobs.app import AsyncJobs
from asyncjobs.guard.nearness import nearest

__all__ = ["hints"]


def hints(app: AsyncJobs, queues: Iterable[str]) -> Iterator[str]:
    """`queues`: those that the worker takes jobs from. The app must be open."""
    if not app.registry.functions():
        yield (
            "the app has no job functions; import the modules that define them where the app is "
            "made"
        )
    if not app.backend.capabilities.shared:
        yield (
            "the store is this process's own memory: jobs that other processes enqueue never "
            "arrive here; set ASYNCJOBS_URL=redis://localhost:6379"
        )
    known = app.local_queues
    for queue in queues:
        if queue in known:
            continue
        # Jobs get there only by options(queue=...), so the name may be a typing error.
        hint = f"no job function here names queue {queue!r}; "
        if near := nearest(queue, known):
            yield f"{hint}did you mean {near!r}?"
        else:
            yield f"{hint}they name {', '.join(known)}, and options(queue=...) any other"
