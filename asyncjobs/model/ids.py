"""Ids of jobs and leases as bytes, the way a store keeps them, and back."""

from __future__ import annotations

__all__ = ["id_bytes", "id_text"]


def id_bytes(id: str) -> bytes:
    """An id as it is stored; of foreign bytes, what `id_text` was given."""
    return id.encode("utf-8", "surrogateescape")


def id_text(stored: bytes) -> str:
    """An id from the store.

    One that is not UTF-8 can only come from a foreign writer. Its job is settled like any
    unreadable one, so the id must survive the way to the worker and back.
    """
    return stored.decode("utf-8", "surrogateescape")
