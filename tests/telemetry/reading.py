"""Reads what was measured, from OpenTelemetry's own in-memory reader."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
)

__all__ = ["Reading"]


class Reading:
    """A provider for one test, and its measurements by name."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider([self._reader])

    def metrics(self) -> dict[str, Metric]:
        data = self._reader.get_metrics_data()
        if data is None:
            return {}
        scopes = [scope for part in data.resource_metrics for scope in part.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def points(self, name: str) -> dict[tuple[Any, ...], float]:
        """Values (a histogram's count) by attribute values, in the order of their names."""
        found: dict[tuple[Any, ...], float] = {}
        metric = self.metrics().get(name)
        for point in () if metric is None else metric.data.data_points:
            attributes = dict(point.attributes or {})
            key = tuple(attributes[name] for name in sorted(attributes))
            if isinstance(point, HistogramDataPoint):
                found[key] = point.count
            elif isinstance(point, NumberDataPoint):
                found[key] = point.value
        return found

    def total(self, name: str) -> float:
        return sum(self.points(name).values())
