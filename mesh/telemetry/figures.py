"""
Figures: counters, gauges and histograms by label values, kept as plain numbers.

    calls = figures.counter("grpc.client.attempt.started", "...", "{attempt}", ("grpc.method",))
    calls.add(("shop.orders.v1.OrderService/GetOrder",))
    figures.snapshot()       everything as values that go through JSON, for another process too

An instrument has at most `MOST_SERIES` series; what comes after is counted under "other" in every
label, so that no client or contract can fill the memory.  Not for threads: a figure belongs to one
event loop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import Any

Labels = tuple[str, ...]
OTHER = "other"
MOST_SERIES = 5000
COUNTER, GAUGE, HISTOGRAM = "counter", "gauge", "histogram"


class Instrument:
    """One figure: its name, and what it counts by which labels."""

    __slots__ = ("bounds", "kind", "labels", "name", "series", "unit", "what")

    def __init__(
        self, kind: str, name: str, what: str, unit: str, labels: Labels, bounds: Sequence[float]
    ) -> None:
        self.kind = kind
        # OpenTelemetry's name and unit, as the gRFCs have them.
        self.name = name
        self.what = what
        self.unit = unit
        self.labels = labels
        self.bounds = tuple(bounds)
        # A number, or of a histogram: one for each bucket, those beyond them, and the sum.
        self.series: dict[Labels, list[float]] = {}

    def add(self, labels: Labels, value: float = 1.0) -> None:
        """Count on."""
        self._at(labels)[0] += value

    def set(self, labels: Labels, value: float) -> None:
        """Say what it is now."""
        self._at(labels)[0] = value

    def observe(self, labels: Labels, value: float) -> None:
        """Put a value into its bucket: the first whose bound is no less."""
        series = self._at(labels)
        series[bisect_left(self.bounds, value)] += 1
        series[-1] += value

    def _at(self, labels: Labels) -> list[float]:
        series = self.series.get(labels)
        if series is None:
            if len(self.series) >= MOST_SERIES:
                labels = (OTHER,) * len(self.labels)
            width = len(self.bounds) + 2 if self.kind == HISTOGRAM else 1
            series = self.series.setdefault(labels, [0.0] * width)
        return series


class Figures:
    """The instruments of a process, in the order in which they were made."""

    def __init__(self) -> None:
        self.instruments: dict[str, Instrument] = {}

    def counter(self, name: str, what: str, unit: str, labels: Labels) -> Instrument:
        return self._make(COUNTER, name, what, unit, labels)

    def gauge(self, name: str, what: str, unit: str, labels: Labels) -> Instrument:
        return self._make(GAUGE, name, what, unit, labels)

    def histogram(
        self, name: str, what: str, unit: str, labels: Labels, bounds: Sequence[float]
    ) -> Instrument:
        return self._make(HISTOGRAM, name, what, unit, labels, bounds)

    def _make(
        self,
        kind: str,
        name: str,
        what: str,
        unit: str,
        labels: Labels,
        bounds: Sequence[float] = (),
    ) -> Instrument:
        """The instrument of this name, made the first time it is asked for."""
        if name not in self.instruments:
            self.instruments[name] = Instrument(kind, name, what, unit, labels, bounds)
        return self.instruments[name]

    def snapshot(self) -> list[dict[str, Any]]:
        """Everything as it is now, as JSON has it."""
        return [
            {
                "kind": each.kind,
                "name": each.name,
                "what": each.what,
                "unit": each.unit,
                "labels": each.labels,
                "bounds": each.bounds,
                "series": [[labels, list(numbers)] for labels, numbers in each.series.items()],
            }
            for each in self.instruments.values()
        ]


def restored(snapshots: Iterable[dict[str, Any]]) -> Figures:
    """The figures of a snapshot, which may have been through JSON."""
    figures = Figures()
    for each in snapshots:
        made = Instrument(
            each["kind"],
            each["name"],
            each["what"],
            each["unit"],
            tuple(each["labels"]),
            each["bounds"],
        )
        made.series = {tuple(labels): list(numbers) for labels, numbers in each["series"]}
        figures.instruments[made.name] = made
    return figures
