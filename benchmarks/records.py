"""What a measurement gives, and how it is written: JSON for programs, Markdown for people."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

__all__ = ["Record", "markdown", "write"]


@dataclass(frozen=True)
class Record:
    """One figure of one subject: a number for each round, in `unit`, or why there is none."""

    shape: str
    subject: str
    figure: str
    unit: str
    fsync: str
    values: tuple[float, ...]
    note: str = ""

    @property
    def median(self) -> float | None:
        """The middle of the rounds; None when no round has a value."""
        return statistics.median(self.values) if self.values else None


def markdown(records: Sequence[Record], facts: Mapping[str, Any]) -> str:
    """A table, and under it what the figures depend on."""
    lines = ["| shape | subject | append-only file | figure | median | lowest to highest |"]
    lines.append("|---|---|---|---|---:|---:|")
    for record in records:
        start = f"| {record.shape} | {record.subject} | {record.fsync} | "
        if record.median is None:
            lines.append(f"{start}none: {record.note.replace('|', '/')} | | |")
            continue
        low, high = min(record.values), max(record.values)
        lines.append(
            f"{start}{record.figure}, {record.unit} | {_number(record.median)} | "
            f"{_number(low)} to {_number(high)}{'; ' * bool(record.note)}{record.note} |"
        )
    lines.append("")
    lines += [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(lines) + "\n"


def write(
    records: Sequence[Record], facts: Mapping[str, Any], folder: Path, name: str
) -> tuple[Path, Path]:
    """Write both files into `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "facts": dict(facts),
        "records": [{**asdict(record), "median": record.median} for record in records],
    }
    as_json, as_text = folder / f"{name}.json", folder / f"{name}.md"
    as_json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    as_text.write_text(markdown(records, facts), encoding="utf-8")
    return as_json, as_text


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
