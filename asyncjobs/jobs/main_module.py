"""The name under which other processes import the module that runs as `__main__`."""

from __future__ import annotations

import os.path
import sys

__all__ = ["main_module"]


def main_module() -> str | None:
    """The name under which a worker imports the module that runs as `__main__`.

    Jobs named `__main__.f` would be unknown to every worker. The name comes from `python -m`, or
    from the path of the file: its place in its package, or relative to the working directory,
    which workers have on their import path. None if the module is no file.
    """
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name)
    path = getattr(main, "__file__", None)
    if not path or path.startswith("<"):  # <stdin>
        return None
    folder, file = os.path.split(os.path.abspath(path))
    stem = os.path.splitext(file)[0]
    parts = [stem]
    # Inside a package: up to the folder that is none, from which Python imports.
    if os.path.exists(os.path.join(folder, "__init__.py")):
        while os.path.exists(os.path.join(folder, "__init__.py")):
            folder, package = os.path.split(folder)
            parts.insert(0, package)
        return ".".join(parts)
    # Below the working directory: `jobs/tasks.py` is `jobs.tasks` for a worker that starts there.
    below = os.path.relpath(folder, os.getcwd()).split(os.sep)
    if below != ["."] and all(part.isidentifier() for part in below):
        parts = [*below, stem]
    return ".".join(parts)
