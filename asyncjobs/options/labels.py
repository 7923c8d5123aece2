"""Labels and tags of jobs: small texts that say what a job belongs to, for filters and logs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

from asyncjobs.errors import ConfigError
from asyncjobs.guard.texts import shown

__all__ = ["MetaValue", "TagsValue", "check_meta", "check_tags", "merge_meta", "merge_tags"]

MOST: Final = 16
"""Labels of one job, and tags of one job. They are stored with every job."""
MOST_KEY: Final = 64
MOST_VALUE: Final = 256
"""Characters."""

MetaValue: TypeAlias = Mapping[str, str]
TagsValue: TypeAlias = Iterable[str]


def check_meta(value: Any, *, field: str) -> dict[str, str]:
    """The labels of a job. Raises ConfigError."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{field} must map names to texts, not be {shown(value)}")
    labels: dict[str, str] = {}
    for key, text in value.items():
        _check_text(key, MOST_KEY, f"{field}: the name")
        # A name with `=` could not be told from its value on the command line.
        if "=" in key:
            raise ConfigError(f"{field}: the name {shown(key)} must not contain '='")
        labels[str(key)] = _check_text(text, MOST_VALUE, f"{field}[{key!r}]")
    return _bounded(labels, field, "labels")


def check_tags(value: Any, *, field: str) -> tuple[str, ...]:
    """The tags of a job, each once. Raises ConfigError."""
    # A text is iterable, too, and would be taken for tags of one letter each.
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise ConfigError(f"{field} must be a list of texts, not {shown(value)}")
    # A dict, which keeps the order in which they were given.
    tags = dict.fromkeys(_check_text(tag, MOST_KEY, f"{field}: a tag") for tag in value)
    return tuple(_bounded(tags, field, "tags"))


def merge_meta(ours: dict[str, str], more: dict[str, str]) -> dict[str, str]:
    """The labels of a job function with those of one enqueue, which win. Raises ConfigError."""
    return _bounded({**ours, **more}, "meta", "labels")


def merge_tags(ours: tuple[str, ...], more: tuple[str, ...]) -> tuple[str, ...]:
    """The tags of a job function, then those of one enqueue. Raises ConfigError."""
    return tuple(_bounded(dict.fromkeys((*ours, *more)), "tags", "tags"))


def _check_text(value: Any, most: int, what: str) -> str:
    is_text = isinstance(value, str)
    if not is_text or not 0 < len(value) <= most or not value.isprintable():
        raise ConfigError(
            f"{what} must have 1 to {most} printable characters, not be {shown(value)}"
        )
    return str(value)


def _bounded(found: dict[str, Any], field: str, what: str) -> dict[str, Any]:
    # Many labels would make each job larger than its arguments.
    if len(found) > MOST:
        raise ConfigError(f"{field} has {len(found)} {what}; a job has at most {MOST}")
    return found
