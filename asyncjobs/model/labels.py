"""The labels of a job as its headers keep them: what filters ask for, and what travels with it.

Only this module knows their keys. Anyone who can write to the store may have written them, so what
is no label is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

__all__ = ["Labels", "labels_in", "labels_of", "variables_header"]

_META: Final = "meta"
_TAGS: Final = "tags"
_VARIABLES: Final = "vars"

Fields = Mapping[str, Any]


class Labels(NamedTuple):
    """The labels of a job by their names, its tags, and the context variables that it carries."""

    meta: dict[str, str]
    tags: tuple[str, ...]
    variables: dict[str, Any]

    @classmethod
    def of(cls, fields: Fields) -> Labels:
        """The labels in the headers of a job."""
        return cls(_meta_in(fields), _tags_in(fields), _variables_in(fields))


def _meta_in(fields: Fields) -> dict[str, str]:
    """The labels, by their names."""
    stored = fields.get(_META)
    if not isinstance(stored, dict):
        return {}
    return {name: text for name, text in stored.items() if isinstance(text, str)}


def _tags_in(fields: Fields) -> tuple[str, ...]:
    """The tags."""
    stored = fields.get(_TAGS)
    if not isinstance(stored, list):
        return ()
    return tuple(tag for tag in stored if isinstance(tag, str))


def labels_in(fields: Fields) -> dict[str, Any]:
    """Labels and tags, as stored; empty for most jobs."""
    return {key: fields[key] for key in (_TAGS, _META) if key in fields}


def labels_of(meta: Mapping[str, str], tags: Sequence[str]) -> dict[str, Any]:
    """The headers of these labels and tags, as stored; empty without any."""
    labels: dict[str, Any] = {}
    if meta:
        labels[_META] = dict(meta)
    if tags:
        labels[_TAGS] = list(tags)
    return labels


def _variables_in(fields: Fields) -> dict[str, Any]:
    """The values of context variables that the job carries, by their names."""
    stored = fields.get(_VARIABLES)
    if not isinstance(stored, dict):
        return {}
    return stored


def variables_header(variables: dict[str, Any]) -> dict[str, Any]:
    """The header of the context variables that a job carries, as stored."""
    return {_VARIABLES: variables}
