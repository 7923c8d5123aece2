"""The queue of a job function: a name, or a function of the arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown
from asyncjobs.options.checks import check_queue_name

__all__ = ["QueueBy", "QueueValue", "check_queue"]

_MOST_AMONG: Final = 1_000


class QueueBy:
    """The queue of each job comes from its arguments:
    `queue=QueueBy(lambda order: order["region"], among=["eu", "us"])`.

    choose: called at each enqueue with the arguments of the call; returns the name of a queue. It
    must be quick, and must not wait.
    among: the queues that it may return. Workers without a list of their own serve these, and
    another name is refused. Without it any name will do: then workers must be told their queues.

    Raises ConfigError for what cannot be called, and for a name that cannot be a queue.
    """

    __slots__ = ("_among", "_choose", "_prefix")

    def __init__(
        self, choose: Callable[..., str], *, among: Iterable[str] = (), _prefix: str = ""
    ) -> None:
        if not callable(choose) or inspect.iscoroutinefunction(choose):
            raise ConfigError(f"QueueBy takes a plain function, not {shown(choose)}")
        if isinstance(among, str):
            raise ConfigError(f"QueueBy: among={among!r:.80} must be a list of queues")
        # Each name becomes a queue that workers serve and ask the store about.
        names = tuple(check_queue_name(name, field="among") for name in among)
        if len(names) > _MOST_AMONG:
            raise ConfigError(f"QueueBy: among has {len(names):,} queues, over {_MOST_AMONG:,}")
        self._choose = choose
        self._among = tuple(dict.fromkeys(names))
        self._prefix = _prefix

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that are known; none if any name will do."""
        return tuple(self._prefix + name for name in self._among)

    def within(self, prefix: str) -> QueueBy:
        """The same in an app whose queues start with `prefix`."""
        return QueueBy(self._choose, among=self._among, _prefix=prefix)

    def queue_of(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The queue of a call of the job function with this name.

        Raises ConfigError for what is no queue or not `among`, and what `choose` raises.
        """
        name = self._choose(*args, **kwargs)
        if self._among and name not in self._among:
            raise ConfigError(
                f"{function}: its queue= returned {shown(name)}, which is not among "
                f"{', '.join(self._among[:10])}"
            )
        # The name may come from a request: it becomes part of the store's keys.
        return check_queue_name(f"{self._prefix}{name}", field=f"{function}: queue")


QueueValue: TypeAlias = str | Callable[..., str] | QueueBy


def check_queue(value: Any, *, field: str) -> str | QueueBy:
    """The queue of a job function. Raises ConfigError."""
    if isinstance(value, QueueBy):
        return value
    if callable(value):
        choose: Any = value
        return QueueBy(choose)
    return check_queue_name(value, field=field)
