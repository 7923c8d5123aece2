"""A store in a folder of its own, and proof that nothing of it is left."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# Unused by name, imported for its effect: some tests make the backend on the event loop, and
# its first import reads files, which would count as a blocking call there.
import asyncjobs.store.embedded.backend  # noqa: F401
from tests.embedded.kit import Store, new_store


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """$TMPDIR of this test, with a short path."""
    folder = Path(tempfile.mkdtemp(prefix="ajt-"))
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def store(tmp_path: Path, temporary: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A folder that does not exist yet."""
    for name in ("ASYNCJOBS_ENV", "ASYNCJOBS_HOME", "ASYNCJOBS_URL"):
        monkeypatch.delenv(name, raising=False)
    with new_store(tmp_path / "project" / ".asyncjobs", temporary) as made:
        made.folder.parent.mkdir()
        yield made
