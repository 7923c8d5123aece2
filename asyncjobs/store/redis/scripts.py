"""The Lua scripts: they are read once, called by digest, and loaded again when forgotten."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from operator import itemgetter
from typing import Any, Final

from asyncjobs.errors import StoreError
from asyncjobs.model.ends import ENDS
from asyncjobs.model.job import State
from asyncjobs.store.answers import NONE_AWAY
from asyncjobs.store.redis.faults import is_of_queue
from asyncjobs.store.redis.keys import QUEUE_KEYS, QueueKeys
from asyncjobs.store.redis.link import Command, Link

__all__ = ["Script", "by_queue", "raise_away", "run", "run_all", "run_each", "script"]

_FOLDER: Final = files("asyncjobs.store.redis") / "lua"
_SHARED_FILES: Final = (
    "shared.lua",
    "ended.lua",
    "history.lua",
    "rooms.lua",
    "lanes.lua",
    "gate_times.lua",
    "newcomers.lua",
    "gates.lua",
    "gate_looks.lua",
    "returning.lua",
    "paused.lua",
    "terms.lua",
    "behind.lua",
    "outbox.lua",
    "unique.lua",
    "flows.lua",
    "barriers.lua",
    "waiting.lua",
    "acting.lua",
    "cancelled.lua",
    "placing.lua",
    "effects.lua",
    "listing.lua",
    "cron.lua",
    "events.lua",
    "hand_out.lua",
)
"""A file may use the statements of those in front of it."""
_COMMENT: Final = re.compile(r"--.*")
_WORD: Final = re.compile(r"[A-Za-z_]\w*")
_NAMES: Final = re.compile(r"local (?:function )?([\w, ]+)")
_KEY: Final = re.compile(r"QUEUE\['([^']+)'\]")
_END: Final = re.compile(r"END\['([^']+)'\]")
_PART: Final = re.compile(r"^PART\['([^']+)'\]$", re.MULTILINE)


def _statements() -> list[tuple[frozenset[str], frozenset[str], str]]:
    """Each `local` statement that scripts share: the names it makes, the words in it, its text."""
    texts = [(_FOLDER / name).read_text() for name in _SHARED_FILES]
    text = _COMMENT.sub("", "\n".join(texts))
    found = []
    # A statement goes on until the next line that begins with `local`.
    for statement in re.split(r"\n(?=local )", text)[1:]:
        made = _NAMES.match(statement)
        assert made is not None
        found.append(
            (
                frozenset(made[1].replace(" ", "").split(",")),
                frozenset(_WORD.findall(statement)),
                statement.strip(),
            )
        )
    return found


_SHARED: Final = _statements()


def _used_by(body: str) -> str:
    """The shared statements that a script needs, in the order of these files."""
    words = set(_WORD.findall(body))
    used = []
    # Backwards, for a statement uses only those in front of it.
    for names, inner, statement in reversed(_SHARED):
        if names & words:
            words |= inner
            used.append(statement)
    return "\n".join(reversed(used))


def _with_keys(text: str) -> tuple[str, list[str]]:
    """The text with the number of each key in place of its name, and these names in order.

    A script names only the keys that it uses, for the server reads, checks and hands to Lua each
    key of a call.
    """
    names = list(dict.fromkeys(_KEY.findall(text)))
    numbered = _KEY.sub(lambda found: f"KEYS[{names.index(found[1]) + 1}]", text)
    return numbered.replace("#QUEUE", str(len(names))), names


def _with_codes(text: str) -> str:
    """The text with the code of each final state in place of its name, as in model/ends.py."""
    return _END.sub(lambda found: f"'{ENDS[State(found[1])].code}'", text)


def _with_parts(body: str) -> str:
    """The body with the text of a file in place of its name: a script too long for one file."""
    return _PART.sub(lambda found: (_FOLDER / f"{found[1]}.lua").read_text(), body)


class Script:
    """One script: its text, with the shared statements in front, and its SHA-1 digest."""

    __slots__ = ("_count", "_pick", "digest", "name", "text")

    def __init__(self, name: str, flags: str | None = None) -> None:
        """`flags`: a first line in place of that in the file."""
        first, _, body = (_FOLDER / f"{name}.lua").read_text().partition("\n")
        flags = flags or first
        body = _COMMENT.sub("", _with_parts(body))
        text, keys = _with_keys(_with_codes(f"{flags}\n{_used_by(body)}\n{body}"))
        self.name = name
        self.text = text.encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()
        self._count = len(keys)
        self._pick = _picker([QUEUE_KEYS.index(key) for key in keys])

    def command(
        self, keys: QueueKeys, *args: bytes | str | int, more_keys: tuple[bytes, ...] = ()
    ) -> tuple[bytes | str | int, ...]:
        """The EVALSHA call on one queue. The first of `args` is the pinned time, or empty."""
        return (
            b"EVALSHA",
            self.digest,
            self._count + len(more_keys),
            *self._pick(keys.all),
            *more_keys,
            *args,
        )


def _picker(places: list[int]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    """A function that takes what stands at `places`, fast: each call of a script needs it."""
    if len(places) > 1:
        return itemgetter(*places)
    # itemgetter of a single place would return the key and no tuple.
    return lambda keys: tuple(keys[place] for place in places)


# Read while importing: a script first read when it is needed would block the loop.
_SCRIPTS: Final = {
    name: Script(name)
    for name in (
        "add_figures",
        "announce",
        "await_events",
        "barrier_start",
        "cancel",
        "change",
        "counts",
        "delete",
        "cron_change",
        "cron_due",
        "cron_fire",
        "cron_get",
        "cron_marks",
        "cron_put",
        "cron_run",
        "deregister",
        "enqueue",
        "enqueue_new",
        "enqueue_terms",
        "exchange",
        "find_letters",
        "figures",
        "finished",
        "flow",
        "flow_add",
        "flow_change",
        "flow_get",
        "flow_nodes",
        "flow_open",
        "flow_page",
        "forget",
        "free_locks",
        "get",
        "heartbeat",
        "held",
        "letters",
        "locks",
        "limit_acquire",
        "limit_close",
        "limit_free",
        "limit_holder",
        "limit_page",
        "limit_set",
        "list_ready",
        "list_running",
        "list_timed",
        "obstacles",
        "offer",
        "note",
        "notes",
        "order",
        "outbox_accept",
        "outbox_note",
        "outbox_read",
        "pause",
        "paused_list",
        "prune",
        "purge",
        "purge_waiting",
        "put_back",
        "reclaim",
        "register",
        "resume",
        "resync",
        "revive",
        "run_now",
        "send_event",
        "survey",
        "workers",
    )
}


# A server without room refuses this one, and does nothing.
_SCRIPTS["exchange_bounded"] = Script("exchange", "#!lua")


def script(name: str) -> Script:
    """One of the scripts in lua/."""
    return _SCRIPTS[name]


async def run(link: Link, which: Script, command: Command) -> Any:
    """Call one script. Raises its error, translated."""
    (reply,) = await run_all(link, which, (command,))
    return reply


async def run_all(
    link: Link,
    which: Script,
    commands: tuple[Command, ...],
) -> list[Any]:
    """Call one script for several queues in one trip; the replies in order.

    Raises the first error, after all replies were read.
    """
    replies = await link.script_calls(which.text, commands)
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


async def run_each(
    link: Link,
    which: Script,
    commands: tuple[Command, ...],
    *,
    last: tuple[Command, ...] = (),
    keeps_cancelled: bool = False,
) -> list[Any]:
    """Like `run_all`, but errors that concern one queue alone stay among the replies.

    For `last` and `keeps_cancelled` see `Link.script_calls`.
    """
    replies = await link.script_calls(which.text, commands, last, keeps_cancelled=keeps_cancelled)
    for reply in replies:
        if isinstance(reply, StoreError) and not is_of_queue(reply):
            raise reply
    return replies


def by_queue(
    queues: Sequence[str], replies: Sequence[Any]
) -> tuple[dict[str, Any], Mapping[str, StoreError]]:
    """The answers of `run_each` by queue, and the errors of the queues without one."""
    answers = dict(zip(queues, replies, strict=True))
    away = {queue: reply for queue, reply in answers.items() if isinstance(reply, StoreError)}
    if not away:
        return answers, NONE_AWAY
    return {queue: reply for queue, reply in answers.items() if queue not in away}, away


def raise_away(away: Mapping[str, StoreError]) -> None:
    """Raise the first of these errors, with the name of its queue. None of them: do nothing."""
    for queue, error in away.items():
        raise type(error)(f"queue {queue!r}: {error}") from error
