"""Limits at the seam: looking at them, changing them, and passing them outside of jobs.

Jobs pass limits by their `Gate`, when they are taken. What stands here is for people, and for code
that is no job.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from asyncjobs.model.terms import LimitRule, LimitUse

__all__ = ["MOST_LIMITS", "Acquired", "LimitPage", "LimitRecord", "Limits"]

MOST_LIMITS: Final = 1_000
"""The most keys of one page."""


class LimitRecord(NamedTuple):
    """One key of a limit as it stands. Times are by the store's clock, in milliseconds.

    `is_set`: an operator has set the rule, for this key or for the whole limit. `running`: the
    permits that are taken, by jobs and outside of them. `waiting`: the jobs that wait because of
    this key, the oldest of them since `oldest_ms`. `opens_ms`: when a job may pass at the
    earliest; None: now, or when a permit is given back.
    """

    queue: str
    limit: str
    key: str
    rule: LimitRule
    is_set: bool
    running: int
    waiting: int
    oldest_ms: int | None
    opens_ms: int | None


class LimitPage(NamedTuple):
    """Some keys of one queue, in no order. The next page begins at `after`; None at the end."""

    limits: list[LimitRecord]
    after: str | None
    now_ms: int


class Acquired(NamedTuple):
    """The answer to somebody who is no job. `again_ms`: after what time to ask again, for one
    that was not let in."""

    is_in: bool
    again_ms: int = 0


class Limits(Protocol):
    """Limits and their keys: `Backend.limits`."""

    async def page(self, queue: str, after: str | None = None, limit: int = 500) -> LimitPage:
        """Keys that are in use: a permit is taken, a job waits, the key is closed, or an operator
        has set a rule for it."""
        ...

    async def look(self, queue: str, limit: str, key: str) -> LimitRecord | None:
        """One key; None when nothing is known of the limit."""
        ...

    async def set_rule(
        self, queue: str, limit: str, key: str | None, rule: LimitRule | None
    ) -> bool:
        """Let this rule hold in place of that in code, for one key or (None) for all; False when
        nothing is known of the limit.

        None as rule: what code says holds again. Jobs that may go on with it do so at once. Permits
        that are taken stay taken: after a smaller number nothing starts until enough have ended.
        Raises UsageError for a rule of the other kind.
        """
        ...

    async def free(self, queue: str, limit: str, key: str) -> int:
        """Open a key that is closed for a time, and count its permits anew by the jobs that run;
        how many permits were free then that nobody held."""
        ...

    async def acquire(
        self, queue: str, uses: Sequence[LimitUse], holder: str, ttl_ms: int
    ) -> Acquired:
        """Pass these limits outside of a job, all together or none.

        The permits are the holder's for `ttl_ms`. Who asks again under its name while it is in is
        answered the same, and counts once.
        """
        ...

    async def renew(self, queue: str, holder: str, ttl_ms: int) -> bool:
        """Keep the permits for so long from now on; False when they are gone."""
        ...

    async def give_back(self, queue: str, holder: str) -> None:
        """Give the permits of a holder back, if it has them still."""
        ...

    async def close(self, queue: str, uses: Sequence[LimitUse], for_ms: int) -> None:
        """Let nobody pass these keys for so long. A key that is closed for longer stays so."""
        ...
