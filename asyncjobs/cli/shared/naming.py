"""Names of projects and job functions that are to be written into code."""

from __future__ import annotations

import keyword
import re
import sys
from typing import Final

import click

__all__ = ["package_name", "snake_case"]

MOST_CHARACTERS: Final = 50
"""Longer names would break lines of the templates, which are written for the formatter."""
_WORD_BEGINS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_TAKEN: Final = frozenset({"asyncjobs", "django", "fastapi", "httpx", "pytest", "test", "tests"})


def snake_case(text: str) -> str:
    """`SendMail`, `send-mail` and `send_mail` are `send_mail`. Raises UsageError."""
    # Words are found first: afterwards nothing tells where they began.
    name = _WORD_BEGINS.sub("_", text).replace("-", "_").lower()
    if _NAME.fullmatch(name) is None or keyword.iskeyword(name) or keyword.issoftkeyword(name):
        raise click.UsageError(
            f"{text!r} is no name for Python code; use letters, digits and _, as in send_mail"
        )
    if len(name) > MOST_CHARACTERS:
        raise click.UsageError(f"{text!r} is longer than {MOST_CHARACTERS} characters")
    return name


def package_name(text: str) -> str:
    """The name of a project's package. Raises UsageError for one that hides another package."""
    name = snake_case(text)
    if name in _TAKEN or name in sys.stdlib_module_names:
        raise click.UsageError(f"{text!r} would hide the package {name}; choose another name")
    return name
