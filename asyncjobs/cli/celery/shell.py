"""Finds calls of Celery's program in files that start it: a Procfile, a Dockerfile, units."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from asyncjobs.cli.celery.files import TextFile
from asyncjobs.cli.celery.rule import RULES
from asyncjobs.cli.celery.sighting import Sighting

__all__ = ["commands_of"]

_SEPARATORS: Final = re.compile(r"[\s\"',\[\]=]+")
_MOST_BEFORE: Final = 8
"""How many words may stand between the program and its command: `-A proj -b URL`."""


def commands_of(file: TextFile) -> Iterator[Sighting]:
    """The commands of Celery that a file has, with their flags. Values of flags stay unread."""
    for number, words in _lines(file):
        for position, word in enumerate(words):
            if word.rpartition("/")[2] != "celery":
                continue
            after = words[position + 1 :]
            command = next((each for each in after[:_MOST_BEFORE] if _is_command(each)), None)
            # Without an app or a command, it is the name of a container or of a package.
            if command is None or (after[0] != command and not after[0].startswith("-")):
                continue
            yield Sighting("command", (command,), file.path, number)
            # One line may start several programs. Then their flags are noted together.
            flags = [each for each in after if RULES.knows("command-option", each)]
            for flag in dict.fromkeys(flags):
                yield Sighting("command-option", (flag,), file.path, number)
            break


def _is_command(word: str) -> bool:
    return RULES.knows("command", word)


def _lines(file: TextFile) -> Iterator[tuple[int, list[str]]]:
    """Lines as words, each with its number; a line that goes on takes the next ones with it."""
    text = ""
    first = 1
    for number, line in enumerate(file.lines, start=1):
        if not text:
            first = number
        if line.lstrip().startswith("#"):
            continue
        text += line
        if text.endswith("\\"):
            text = f"{text[:-1]} "
            continue
        yield first, list(filter(None, _SEPARATORS.split(text)))
        text = ""
