"""Which job a text names: `queue/id`, or the id alone, which may hold a slash itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from asyncjobs.model.job import JobRef
from asyncjobs.options.checks import check_job_id, is_job_id, is_queue_name

__all__ = ["Readings", "check_job_name", "read_job_name"]

T = TypeVar("T")
Ask: TypeAlias = Callable[[Sequence[JobRef]], Awaitable[Sequence[T | None]]]
"""Asks a store for these jobs; None for one that is not there."""


class Readings(NamedTuple):
    """The jobs that a text may stand for.

    `is_written`: the first of them is the one whose public id it is, `queue/id`. That one
    is meant if it exists: no id that somebody else has chosen may stand in the way of a
    public id. The others count only without it.
    """

    refs: tuple[JobRef, ...]
    is_written: bool = False

    async def find(self, ask: Ask[T]) -> list[T]:
        """What is there and is meant; more than one when the text is ambiguous."""
        others = self.refs
        if self.is_written:
            # Alone first: most texts are public ids, and there may be very many queues.
            (found,) = await ask(self.refs[:1])
            if found is not None:
                return [found]
            others = self.refs[1:]
        answers = await ask(others) if others else ()
        return [answer for answer in answers if answer is not None]


def check_job_name(text: str, *, field: str = "id") -> str:
    """`text`, if it is a job id or a queue with one. Raises ConfigError naming `field`.

    A whole public id may be longer than the longest id.
    """
    return text if _written(text) is not None else check_job_id(text, field=field)


def read_job_name(
    text: str, known: Collection[str], *, only: Collection[str] | None = None
) -> Readings:
    """The readings of a text that `check_job_name` has let pass.

    An id alone is looked for in the `known` queues. `only` these queues are meant, if given.
    """
    queues = known if only is None else only
    written = _written(text)
    if written is not None and only is not None and written.queue not in only:
        written = None
    refs = [JobRef(queue, text) for queue in queues] if is_job_id(text) else []
    if written is None:
        return Readings(tuple(refs))
    return Readings((written, *refs), is_written=True)


def _written(text: str) -> JobRef | None:
    """The job whose public id this is."""
    if not isinstance(text, str):
        return None
    queue, _, id = text.partition("/")
    return JobRef(queue, id) if is_queue_name(queue) and is_job_id(id) else None
