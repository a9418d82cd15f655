"""
Figures as Prometheus reads them: its text format, or OpenMetrics where Accept asks for it.

    grpc.client.attempt.duration, in s     ->  grpc_client_attempt_duration_seconds
    grpc.client.attempt.started            ->  grpc_client_attempt_started_total

Names follow OpenTelemetry's rules for Prometheus.  Several processes' figures stand beside each
other under a label: added up they could not show that one of them began anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from mesh.telemetry.figures import COUNTER, HISTOGRAM, Figures, Instrument

UNITS = {"s": "seconds", "By": "bytes"}


def exposition(
    figures: Mapping[str, Figures], accept: str = "", label: str = "worker"
) -> tuple[str, bytes]:
    """
    Content type and body of the figures of several processes, by their value of `label`.

    The key "" stands for a process that is alone, and needs no label.
    """
    encode, content_type = choose_encoder(accept)
    return content_type, encode(_Collected(figures, label))


class _Collected:
    """What prometheus_client asks of a registry."""

    def __init__(self, figures: Mapping[str, Figures], label: str) -> None:
        self._figures = figures
        self._label = label

    def collect(self) -> Iterator[Metric]:
        names: dict[str, list[tuple[str, Instrument]]] = {}
        for process, figures in self._figures.items():
            for name, instrument in figures.instruments.items():
                names.setdefault(name, []).append((process, instrument))
        for found in names.values():
            yield self._family(found)

    def _family(self, found: list[tuple[str, Instrument]]) -> Metric:
        one = found[0][1]
        more = [self._label] if any(process for process, _ in found) else []
        labels = [*more, *(_name(label) for label in one.labels)]
        unit = UNITS.get(one.unit, "")
        kind = _FAMILIES.get(one.kind, GaugeMetricFamily)
        name = _name(one.name)
        if unit and not name.endswith(unit):
            name = f"{name}_{unit}"
        family: Any = kind(name, one.what, labels=labels, unit=unit)
        for process, instrument in found:
            for values, numbers in instrument.series.items():
                given = [*([process] if more else []), *values]
                if one.kind == HISTOGRAM:
                    family.add_metric(given, _buckets(instrument, numbers), numbers[-1])
                else:
                    family.add_metric(given, numbers[0])
        return family  # type: ignore[no-any-return]


_FAMILIES: dict[str, Any] = {COUNTER: CounterMetricFamily, HISTOGRAM: HistogramMetricFamily}


def _buckets(instrument: Instrument, numbers: Iterable[float]) -> list[tuple[str, float]]:
    *counts, _ = numbers
    bounds = [*(f"{float(bound):g}" for bound in instrument.bounds), "+Inf"]
    return list(zip(bounds, accumulate(counts), strict=True))


def _name(name: str) -> str:
    return name.replace(".", "_")
