"""Finds the job that a text names: by `queue/id`, or by the id alone, which may contain a slash."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

from asyncjobs.model.refs import JobRef
from asyncjobs.options.checks import check_job_id, is_job_id, is_queue_name

__all__ = ["Readings", "check_job_name", "read_job_name"]

T = TypeVar("T")
Ask: TypeAlias = Callable[[Sequence[JobRef]], Awaitable[Sequence[T | None]]]
"""Asks a store for these jobs. The answer has None for a job that does not exist."""


class Readings(NamedTuple):
    """The jobs that a text may name.

    `is_written`: the text is the public id, `queue/id`, of the first one. If that job exists, it
    is meant, because an id that somebody else has chosen must not hide a public id. The other
    readings count only if it does not exist.
    """

    refs: tuple[JobRef, ...]
    is_written: bool = False

    async def find(self, ask: Ask[T]) -> list[T]:
        """The jobs that exist and are meant. There are several if the text is ambiguous."""
        others = self.refs
        if self.is_written:
            # Ask for this one alone first: most texts are public ids, and to look into all
            # queues would cost a look for each.
            (found,) = await ask(self.refs[:1])
            if found is not None:
                return [found]
            others = self.refs[1:]
        if not others:
            return []
        return [answer for answer in await ask(others) if answer is not None]


def check_job_name(text: str, *, field: str = "id") -> str:
    """`text`, if it is a job id or a public id. Raises ConfigError naming `field`.

    A public id may be longer than an id may be.
    """
    if _written(text) is not None:
        return text
    return check_job_id(text, field=field)


def read_job_name(
    text: str, known: Collection[str], *, only: Collection[str] | None = None
) -> Readings:
    """The readings of a text that `check_job_name` has accepted.

    An id alone may be in any of the `known` queues. `only`: look in these queues alone.
    """
    queues = known
    written = _written(text)
    if only is not None:
        queues = only
        if written is not None and written.queue not in only:
            written = None
    refs: list[JobRef] = []
    if is_job_id(text):
        refs = [JobRef(queue, text) for queue in queues]
    if written is None:
        return Readings(tuple(refs))
    return Readings((written, *refs), is_written=True)


def _written(text: str) -> JobRef | None:
    """The job whose public id this text is; None if it is no public id."""
    if not isinstance(text, str):
        return None
    queue, _, id = text.partition("/")
    if is_queue_name(queue) and is_job_id(id):
        return JobRef(queue, id)
    return None
