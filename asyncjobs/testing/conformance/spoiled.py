"""A queue whose calls fail, beside others that are sound."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

import pytest

__all__ = ["ALL", "BAD", "Spoil", "spoil"]

BAD: Final = "bad"
"""The queue that is spoiled."""
ALL: Final = "*"
"""In place of a name: everything of the queue."""
Spoil: TypeAlias = Callable[..., Awaitable[None]]


@pytest.fixture
def spoil() -> Spoil:
    """Override it for a store in which one queue can fail while others work.

    `await spoil(name)` makes the calls on queue BAD fail with a StoreError, as if what is
    stored under this name were spoiled; `await spoil(name, is_sound=True)` mends it, and the
    fixture mends everything at its end.
    """
    pytest.skip("nothing says how a queue of this store is spoiled")
