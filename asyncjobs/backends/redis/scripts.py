"""The Lua scripts: read once, called by their digest, loaded again when forgotten."""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Any, Final

from asyncjobs.backends.redis.faults import NoScript
from asyncjobs.backends.redis.keys import QueueKeys
from asyncjobs.backends.redis.link import Command, Link

__all__ = ["Script", "run", "run_all", "script"]

_FOLDER: Final = files("asyncjobs.backends.redis") / "lua"


class Script:
    """One script: its text with the shared part in front, and its SHA-1 digest."""

    __slots__ = ("digest", "name", "text")

    def __init__(self, name: str) -> None:
        flags, _, body = (_FOLDER / f"{name}.lua").read_text().partition("\n")
        shared = (_FOLDER / "shared.lua").read_text()
        self.name = name
        self.text = f"{flags}\n{shared}\n{body}".encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def command(
        self, keys: QueueKeys, *args: bytes | str | int, more_keys: tuple[bytes, ...] = ()
    ) -> tuple[bytes | str | int, ...]:
        """The EVALSHA call on one queue. `args` start with the pinned time or ''."""
        return (
            b"EVALSHA",
            self.digest,
            len(keys.all) + len(more_keys),
            *keys.all,
            *more_keys,
            *args,
        )


# Read while importing: a script first read when it is needed would block the loop.
_SCRIPTS: Final = {
    name: Script(name)
    for name in (
        "announce", "cancel", "counts", "deregister", "enqueue", "exchange", "find_letters",
        "flow", "get", "heartbeat", "held", "letters", "progress", "prune", "purge", "reclaim",
        "register", "resync", "revive", "workers",
    )
}  # fmt: skip


def script(name: str) -> Script:
    """One of the scripts in lua/."""
    return _SCRIPTS[name]


async def run(link: Link, which: Script, command: Command) -> Any:
    """Call one script; its error is raised, translated."""
    (reply,) = await run_all(link, which, (command,))
    return reply


async def run_all(
    link: Link, which: Script, commands: tuple[Command, ...], *, last: tuple[Command, ...] = ()
) -> list[Any]:
    """Call one script for several queues in one trip; replies in order.

    A script that the server forgot was not executed, so exactly those calls are sent
    again. `last` is sent behind the calls, on the same connection, each time. The first
    other error is raised after all replies have been read.
    """
    replies = await link.calls((*commands, *last))
    forgotten = [place for place, reply in enumerate(replies) if isinstance(reply, NoScript)]
    if forgotten:
        await link.call(b"SCRIPT", b"LOAD", which.text)
        again = await link.calls([*(commands[place] for place in forgotten), *last])
        places = [*forgotten, *range(len(commands), len(replies))]
        for place, reply in zip(places, again, strict=True):
            replies[place] = reply
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies
