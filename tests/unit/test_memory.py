"""Sizes as text, and the limit of a process's memory."""

from __future__ import annotations

import pytest

from asyncjobs import ConfigError
from asyncjobs.options.durations import parse_size
from asyncjobs.worker.watch import memory
from asyncjobs.worker.watch.memory import MemoryLimit, resident_bytes, show_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 << 20),
        ("512 mib", 512 << 20),
        (" 1.5GiB ", 3 << 29),
        ("800MB", 800_000_000),
        ("2gb", 2_000_000_000),
        ("64KiB", 65_536),
        ("64kB", 64_000),
        ("123", 123),
        ("123B", 123),
    ],
)
def test_a_size_is_a_number_and_a_unit(text: str, size: int) -> None:
    assert parse_size(text, field="max_memory") == size


@pytest.mark.parametrize(
    "text", ["", "512M", "1G", "-1MiB", "0", "0.1B", "MiB", "1,5GiB", "1e3MB", "inf", "٣MiB"]
)
def test_what_is_no_size_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(ConfigError, match="is not a size; write a number and KiB, MiB") as error:
        parse_size(text, field="max_memory")
    assert str(error.value).startswith(f"max_memory={text!r}")


def test_a_size_is_shown_as_it_is_written() -> None:
    assert [show_bytes(n) for n in (512, 64 << 10, 512 << 20, 3 << 29)] == [
        "512 bytes",
        "64 KiB",
        "512 MiB",
        "1.50 GiB",
    ]


def test_memory_that_is_taken_and_given_back_is_seen() -> None:
    before = resident_bytes()
    assert before is not None
    held = b"x" * (64 << 20)
    during = resident_bytes()
    assert during is not None
    assert during - before > 48 << 20
    assert len(held) == 64 << 20
    # Elsewhere only the most ever is known, and it counts as much.
    most = memory._most_ever()
    assert most is not None
    assert most >= during - (8 << 20)


def test_where_nothing_tells_the_memory_the_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory, "resident_bytes", lambda: None)
    with pytest.raises(ConfigError, match="max_memory=512 MiB cannot be kept: this system does"):
        MemoryLimit(512 << 20)


@pytest.mark.anyio
async def test_the_watch_ends_with_what_was_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([100, 150, 200, 201, 100])
    monkeypatch.setattr(memory, "resident_bytes", lambda: next(sizes))
    monkeypatch.setattr(memory, "LOOK_S", 0)
    limit = MemoryLimit(200)
    told: list[int | None] = []
    await limit.watch(lambda: told.append(limit.found))
    assert told == [201]
