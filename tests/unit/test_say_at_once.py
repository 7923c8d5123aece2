"""Last words are written if they can be, and hold up no end."""

from __future__ import annotations

import os

from asyncjobs.host.exits import say_at_once


def test_they_are_written() -> None:
    reader, writer = os.pipe()
    say_at_once(b"planted\n", writer)
    os.close(writer)
    assert os.read(reader, 100) == b"planted\n"
    os.close(reader)


def test_a_reader_that_is_gone_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    say_at_once(b"planted\n", writer)
    os.close(writer)
    say_at_once(b"planted\n", writer)


def test_a_reader_that_reads_no_more_is_not_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    written = 0
    try:
        while True:
            written += os.write(writer, b"x" * 4096)
    except BlockingIOError:
        os.set_blocking(writer, True)
    say_at_once(b"planted\n", writer)
    os.close(writer)
    read = 0
    while piece := os.read(reader, 65536):
        read += len(piece)
    os.close(reader)
    assert read == written
