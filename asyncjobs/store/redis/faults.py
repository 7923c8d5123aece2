"""The server's errors, translated into ours. Each has a defined answer.

| the server says | what it becomes | what callers do |
|---|---|---|
| NOSCRIPT | NoScript | load the script and send again: nothing was executed |
| NOGROUP | answered inside the scripts | the group is made again, from the start |
| NOAUTH, WRONGPASS, NOPERM | AccessDenied | open raises ConfigError, a worker backs off |
| OOM | StoreFull | only an enqueue can meet it |
| READONLY, MASTERDOWN, UNBLOCKED | Demoted | connect again: the master is elsewhere; back off |
| LOADING, MISCONF, NOREPLICAS, BUSY | StoreUnavailable | they back off |
| MOVED, ASK, CROSSSLOT | ClusterNode | open raises ConfigError; reported |
| anything else | StoreError | a fault of ours or of the server's set-up: reported |

AccessDenied, StoreFull and a plain StoreError are about the keys of a call, so they concern one
queue and no other (`is_of_queue`). All others are about the server, whatever was asked.
"""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    NoPermissionError,
    OutOfMemoryError,
    RedisError,
    ResponseError,
)

from asyncjobs.errors import StoreError, StoreFull, StoreUnavailable

__all__ = [
    "AccessDenied",
    "ClusterNode",
    "Demoted",
    "NoScript",
    "cluster_error",
    "is_of_queue",
    "translate",
]

# The driver turns some first words into classes and drops them from the text.
_DEMOTED = frozenset({"ReadOnlyError", "MasterDownError"})
_OF_A_CLUSTER = {
    "MovedError": "MOVED ",
    "AskError": "ASK ",
    "ClusterCrossSlotError": "CROSSSLOT ",
}
_FOR_NOW = (
    "LOADING",
    "MISCONF",
    "NOREPLICAS",
    "BUSY",
    "TRYAGAIN",
    "CLUSTERDOWN",
    "max number of clients",
)
_PASSING = frozenset(
    {
        "BusyLoadingError",
        "BusyError",
        "TryAgainError",
        "ClusterDownError",
        "MaxConnectionsError",
    }
)


class NoScript(StoreError):
    """The server has forgotten a script (restart, SCRIPT FLUSH): load it again."""


class AccessDenied(StoreUnavailable):
    """Credentials or rights are missing. At open that is final. A running worker has had them, so
    somebody is changing them, and it has to wait until that is done."""


class ClusterNode(StoreError):
    """The server is a node of a cluster, so it has only a part of the keys."""


class Demoted(StoreUnavailable):
    """The server is a replica: this connection will never work again."""


def translate(error: BaseException, address: str) -> StoreError:
    """Our error for one of the driver. Its text names the address and the next step."""
    if isinstance(error.__cause__, AuthenticationError):
        # Over a unix socket the driver wraps the error of the server in one of its own.
        error = error.__cause__
    text = str(error)
    # rule:10 OOM is StoreFull
    if isinstance(error, OutOfMemoryError) or text.startswith(("OOM", "command not allowed when")):
        return StoreFull(
            f"the store at {address} has reached maxmemory and refuses new jobs; "
            "raise maxmemory or drain the queues"
        )
    if text.startswith(("NOSCRIPT", "No matching script")):
        return NoScript(text)
    if isinstance(error, AuthenticationError | NoPermissionError) or text.startswith(
        ("WRONGPASS", "NOAUTH", "NOPERM")
    ):
        return AccessDenied(
            f"the store at {address} refused the credentials: {text}; check user, password, ACL"
        )
    if (word := _OF_A_CLUSTER.get(type(error).__name__)) is not None:
        return cluster_error(address, f"it answered: {word}{text}")
    if type(error).__name__ in _DEMOTED or text.startswith("UNBLOCKED"):
        return Demoted(
            f"the store at {address} is not available: it is a replica: {text}; a failover may "
            "be under way, else use the primary in the store URL"
        )
    # rule:10 what passes by itself is StoreUnavailable
    if isinstance(error, ResponseError) and not _is_passing(error, text):
        return StoreError(f"the store at {address} answered: {text}")
    if isinstance(error, TimeoutError) and not text:
        text = "no answer in time"
    return StoreUnavailable(
        f"the store at {address} is not available: {text or type(error).__name__}; "
        "check that the server runs and that the URL is right"
    )


def cluster_error(address: str, sign: str) -> ClusterNode:
    """The error for a node of a cluster. `sign` is how it was recognized."""
    return ClusterNode(
        f"the store at {address} is a node of a cluster ({sign}), and asyncjobs needs one server "
        "for all queues: use one with cluster-enabled no, alone or behind sentinels"
    )


def is_of_queue(error: StoreError) -> bool:
    """Whether the error concerns one queue alone: others may have been answered."""
    return isinstance(error, AccessDenied) or not isinstance(error, StoreUnavailable)


def _is_passing(error: RedisError, text: str) -> bool:
    return type(error).__name__ in _PASSING or any(word in text for word in _FOR_NOW)
