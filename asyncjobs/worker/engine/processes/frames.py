"""What a worker and a child send each other: frames of a kind, a length, and bytes.

Their content is JSON, never pickle, and has limits. A child runs the user's code, so what it sends
may be anything.
"""

from __future__ import annotations

import socket
import struct
import threading
from enum import IntEnum
from typing import Any, Final, NamedTuple

from asyncjobs.model.codec import MAX_ENVELOPE, BadRecord, parse, to_json

__all__ = ["HEAD", "MOST_BYTES", "Frame", "Kind", "Sender", "read_frame", "read_head", "split_task"]

HEAD: Final = struct.Struct("!BI")
MOST_BYTES: Final = MAX_ENVELOPE + (1 << 20)
"""The longest frame: an envelope, and what is said about its attempt."""


class Kind(IntEnum):
    """What a frame is about."""

    TASK = 1
    """To a child: its attempt."""
    STOP = 2
    """To a child: the SIGTERM that comes now is meant for the attempt."""
    PROGRESS = 3
    LOG = 4
    VALUE = 5
    """What the function has returned."""
    UNKEPT = 6
    """The function has returned what cannot be kept; why."""
    UNFINISHED = 7
    """The function has returned work that was not done; what."""
    ERROR = 8
    SHUTDOWN = 9
    """To a child, like the three that follow: why the job should stop. Orders have no body."""
    CANCEL = 10
    TIMEOUT = 11
    LEASE_LOST = 12


class Frame(NamedTuple):
    """One frame. `body` is JSON; in a TASK a stored envelope follows it."""

    kind: Kind
    body: bytes

    def fields(self) -> dict[str, Any]:
        """The JSON object in it. Raises BadRecord."""
        try:
            fields = parse(self.body)
        except ValueError as error:
            raise BadRecord(f"{type(error).__name__}: {error}") from error
        if type(fields) is not dict:
            raise BadRecord("it is no JSON object")
        return fields


def read_head(head: bytes) -> tuple[Kind, int]:
    """Its kind and the length of its body. Raises BadRecord."""
    number, length = HEAD.unpack(head)
    # rule:15 a frame of a child has a limit
    if length > MOST_BYTES:
        raise BadRecord(f"a frame of {length} B")
    try:
        return Kind(number), length
    except ValueError as error:
        raise BadRecord(f"a frame of the unknown kind {number}") from error


def split_task(body: bytes) -> tuple[dict[str, Any], bytes]:
    """What a TASK says about its attempt, and the stored envelope."""
    # JSON writes a line break in a text as `\n`, so the first real one ends it.
    about, _, envelope = body.partition(b"\n")
    return Frame(Kind.TASK, about).fields(), envelope


def read_frame(source: socket.socket) -> Frame | None:
    """Wait for one frame; None at the end of the stream. Blocks."""
    head = _exactly(source, HEAD.size)
    if head is None:
        return None
    kind, length = read_head(head)
    body = _exactly(source, length)
    if body is None:
        return None
    return Frame(kind, body)


def _exactly(source: socket.socket, count: int) -> bytes | None:
    whole = bytearray()
    while len(whole) < count:
        piece = source.recv(min(count - len(whole), 1 << 20))
        if not piece:
            return None
        whole += piece
    return bytes(whole)


class Sender:
    """A child's way to its worker, from any of its threads. Blocks while the worker is busy, so a
    child that says much is slowed down and fills no memory."""

    def __init__(self, sink: socket.socket) -> None:
        self._sink = sink
        self._lock = threading.Lock()

    def send(self, kind: Kind, body: bytes) -> None:
        """Raises OSError when the worker is gone."""
        with self._lock:
            self._sink.sendall(HEAD.pack(kind, len(body)) + body)

    def tell(self, kind: Kind, fields: dict[str, Any]) -> None:
        """Send fields that JSON has."""
        self.send(kind, to_json(fields))
