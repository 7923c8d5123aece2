"""Values of flags: durations, sizes and queues are read from text, or refused with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import click

from asyncjobs.errors import ConfigError
from asyncjobs.options.checks import check_queue_name
from asyncjobs.options.durations import parse_duration, parse_size

__all__ = [
    "Duration",
    "DurationOrOff",
    "Queues",
    "Size",
    "count",
    "merge_queues",
    "show_duration",
]


class Duration(click.ParamType[float]):
    """A time with its unit, such as `250ms` or `30s`; converted to seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        if not isinstance(value, str):
            return float(value)
        try:
            return parse_duration(value, field="")
        except ConfigError as error:
            # click itself names the flag and its environment variable.
            self.fail(str(error).removeprefix("="), param, ctx)


class DurationOrOff(click.ParamType[float | None]):
    """A duration; `off` and 0 become None."""

    name = "duration|off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float | None:
        if value is None or (isinstance(value, str) and value.strip().lower() == "off"):
            return None
        return Duration().convert(value, param, ctx) or None


class Size(click.ParamType[int]):
    """A number of bytes with its unit, such as `512MiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if not isinstance(value, str):
            return int(value)
        try:
            return parse_size(value, field="")
        except ConfigError as error:
            self.fail(str(error).removeprefix("="), param, ctx)


class Queues(click.ParamType[dict[str, int]]):
    """`mail:3,default:1`: names with their weights. The default weight is 1."""

    name = "queues"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, int]:
        if isinstance(value, Mapping):
            return dict(value)
        weights: dict[str, int] = {}
        for part in filter(None, (part.strip() for part in str(value).split(","))):
            queue, colon, weight = part.partition(":")
            try:
                check_queue_name(queue, field="")
            except ConfigError as error:
                self.fail(str(error).removeprefix("="), param, ctx)
            if colon and not (weight.isdecimal() and weight.isascii() and int(weight)):
                self.fail(
                    f"{weight!r} is not a weight for queue {queue!r}; write a whole number of at "
                    f"least 1: {queue}:3",
                    param,
                    ctx,
                )
            if queue in weights:
                self.fail(f"queue {queue!r} is named twice in {value!r}; name it once", param, ctx)
            weights[queue] = 1
            if colon:
                weights[queue] = int(weight)
        if not weights:
            self.fail(f"{value!r} names no queue; write mail,default or mail:3", param, ctx)
        return weights


def merge_queues(
    ctx: click.Context, param: click.Parameter, value: Iterable[Mapping[str, int]]
) -> dict[str, int] | None:
    """Merge the values of a flag that may be repeated; None if it was not given."""
    merged: dict[str, int] = {}
    for weights in value:
        for queue, weight in weights.items():
            if queue in merged:
                raise click.BadParameter(
                    f"queue {queue!r} is named twice; name it once", ctx=ctx, param=param
                )
            merged[queue] = weight
    return merged or None


def show_duration(seconds: float) -> str:
    """A duration as it is written on the command line: 0.3 is `300ms`, 30 is `30s`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    return f"{seconds:g}s"


def count(number: int, noun: str) -> str:
    """`1 job`, `1,200 jobs`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun}s"
