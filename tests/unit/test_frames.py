"""What a worker reads from the processes of attempts has limits."""

from __future__ import annotations

import socket
import threading

import pytest

from asyncjobs.model.codec import BadRecord
from asyncjobs.worker.engine.processes.frames import (
    HEAD,
    MOST_BYTES,
    Frame,
    Kind,
    Sender,
    read_frame,
    read_head,
    split_task,
)


def test_a_frame_that_is_too_long_or_unknown_is_refused() -> None:
    assert read_head(HEAD.pack(Kind.VALUE, MOST_BYTES)) == (Kind.VALUE, MOST_BYTES)
    with pytest.raises(BadRecord, match="a frame of"):
        read_head(HEAD.pack(Kind.VALUE, MOST_BYTES + 1))
    with pytest.raises(BadRecord, match="unknown kind 99"):
        read_head(HEAD.pack(99, 0))


def test_a_frame_is_an_object_and_not_too_deep() -> None:
    assert Frame(Kind.LOG, b'{"a":1}').fields() == {"a": 1}
    for body in (b"[1]", b"{", b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"):
        with pytest.raises(BadRecord):
            Frame(Kind.LOG, body).fields()


def test_a_task_is_what_is_said_of_it_and_the_bytes_that_were_stored() -> None:
    assert split_task(b'{"name":"a\\nb"}\n{"v":1}\n') == ({"name": "a\nb"}, b'{"v":1}\n')


def test_frames_of_several_threads_do_not_mix() -> None:
    ours, its = socket.socketpair()
    with ours, its:
        sender = Sender(its)
        bodies = [bytes([65 + number]) * 300_000 for number in range(4)]
        threads = [
            threading.Thread(target=sender.send, args=(Kind.LOG, body), daemon=True)
            for body in bodies
        ]
        for thread in threads:
            thread.start()
        found = [read_frame(ours) for _ in bodies]
        for thread in threads:
            thread.join()
        its.close()
        assert read_frame(ours) is None
    assert sorted(frame.body for frame in found if frame) == bodies
