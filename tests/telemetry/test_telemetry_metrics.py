"""What channels tell, as figures: names, labels, buckets and bounds."""

from __future__ import annotations

import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mesh.telemetry.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    CircuitChanged,
    EndpointEjected,
    EndpointsChanged,
    Event,
    FaultInjected,
    FellBack,
    Hedged,
    PolicyChanged,
    PolicyRefused,
    Retried,
    RetryRefused,
    Span,
)
from mesh.telemetry.figures import MOST_SERIES, OTHER, Figures, restored
from mesh.telemetry.metrics import LATENCY, ClientMetrics
from mesh.telemetry.prometheus import exposition

GET = "/shop.orders.v1.OrderService/GetOrder"
NAME = GET.lstrip("/")


def told(*events: Event, figures: Figures | None = None) -> dict[str, dict[tuple[str, ...], float]]:
    """Counters and gauges by name and labels, of histograms how many values."""
    figures = figures or Figures()
    emit = ClientMetrics(figures).of("orders", lambda method: method == GET)
    for event in events:
        emit(event)
    return {
        name: {
            labels: sum(numbers[:-1]) if each.bounds else numbers[0]
            for labels, numbers in each.series.items()
        }
        for name, each in figures.instruments.items()
        if each.series
    }


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (AttemptStarted(GET, "o-1", 1), {"grpc.client.attempt.started": {(NAME, "orders"): 1}}),
        (
            AttemptEnded(GET, "o-1", 1, "OK", 0.01),
            {"grpc.client.attempt.duration": {(NAME, "orders", "OK"): 1}},
        ),
        (
            CallEnded(GET, "NOT_FOUND", 0.01, 1),
            {
                "grpc.client.call.duration": {(NAME, "orders", "NOT_FOUND"): 1},
                "grpc.client.call.retry_delay": {(NAME, "orders"): 1},
            },
        ),
        (
            EndpointEjected("o-1", "success_rate"),
            {"grpc.lb.outlier_detection.ejections_enforced": {("orders", "success_rate"): 1}},
        ),
        (
            EndpointEjected("o-1", "failure_percentage", unenforced="max_ejection_overflow"),
            {
                "grpc.lb.outlier_detection.ejections_unenforced": {
                    ("orders", "failure_percentage", "max_ejection_overflow"): 1
                }
            },
        ),
        (
            CallRejected(GET, "CIRCUIT_OPEN"),
            {"mesh.client.calls.refused": {(NAME, "orders", "CIRCUIT_OPEN"): 1}},
        ),
        (
            RetryRefused(GET, 1, "UNAVAILABLE", "budget"),
            {"mesh.client.retries.refused": {(NAME, "orders", "budget"): 1}},
        ),
        (
            CircuitChanged("o-1", GET, "CLOSED", "OPEN"),
            {"mesh.client.circuit.changes": {(NAME, "orders", "open"): 1}},
        ),
        (FellBack(GET, "value", "UNAVAILABLE"), {"mesh.client.fallbacks": {(NAME, "orders"): 1}}),
        (FaultInjected(GET, "delay"), {"mesh.client.faults": {(NAME, "orders", "delay"): 1}}),
        (PolicyRefused("file", "why"), {"mesh.client.policies.refused": {("orders",): 1}}),
        (PolicyChanged("file"), {}),
        (
            EndpointsChanged(3, 2, panic=True),
            {
                "mesh.client.endpoints": {
                    ("orders", "known"): 3,
                    ("orders", "picked"): 2,
                    ("orders", "panic"): 1,
                }
            },
        ),
    ],
)
def test_each_event_is_counted_by_its_name(
    event: Event, expected: dict[str, dict[tuple[str, ...], float]]
) -> None:
    assert told(event) == expected


def test_what_a_call_repeated_is_told_once_it_has_ended() -> None:
    """Two calls at the same time are not mixed up, and one without repetitions reports none."""
    one, two, three = (Span("t" * 32, name * 16) for name in "123")
    figures = Figures()
    found = told(
        Retried(GET, 1, "UNAVAILABLE", 0.25, span_id=one.span_id),
        Retried(GET, 1, "UNAVAILABLE", 0.0, transparent=True, span_id=two.span_id),
        Retried(GET, 2, "UNAVAILABLE", 0.5, span_id=one.span_id),
        Hedged(GET, 2, span_id=two.span_id),
        CallEnded(GET, "OK", 1.0, 3, span=one),
        CallEnded(GET, "OK", 1.0, 2, span=two),
        CallEnded(GET, "OK", 1.0, 1, span=three),
        figures=figures,
    )

    labels = (NAME, "orders")
    sums = {
        name: each.series[labels][-1]
        for name, each in figures.instruments.items()
        if labels in each.series and each.bounds
    }
    assert sums == {
        "grpc.client.call.retries": 2,
        "grpc.client.call.transparent_retries": 1,
        "grpc.client.call.hedges": 1,
        "grpc.client.call.retry_delay": 0.75,
    }
    assert found["grpc.client.call.retries"] == {labels: 1}
    assert found["grpc.client.call.retry_delay"] == {labels: 3}


def test_a_method_that_no_contract_has_is_other() -> None:
    found = told(*(AttemptStarted(f"/made.Up/Method{number}", "o-1", 1) for number in range(100)))

    assert found == {"grpc.client.attempt.started": {(OTHER, "orders"): 100}}


def test_an_instrument_has_a_bounded_number_of_series() -> None:
    counter = Figures().counter("c", "", "", ("a", "b"))
    for number in range(MOST_SERIES * 2):
        counter.add((str(number), "x"))

    assert len(counter.series) == MOST_SERIES + 1
    assert counter.series[OTHER, OTHER] == [MOST_SERIES]


def test_a_value_lands_in_the_first_bucket_whose_bound_is_no_less() -> None:
    histogram = Figures().histogram("h", "", "s", (), (0, 1, 2))
    for value in (0, 0.5, 1, 1.5, 2, 2.5):
        histogram.observe((), value)

    assert histogram.series[()] == [1, 2, 2, 1, 7.5]


def test_figures_go_through_json_whole() -> None:
    figures = Figures()
    told(AttemptEnded(GET, "o-1", 1, "OK", 0.01), AttemptStarted(GET, "o", 1), figures=figures)

    again = restored(json.loads(json.dumps(figures.snapshot())))

    assert exposition({"": again}) == exposition({"": figures})


def test_prometheus_reads_what_is_shown_and_workers_stand_beside_each_other() -> None:
    figures = Figures()
    told(AttemptEnded(GET, "o-1", 1, "OK", 0.0007), figures=figures)
    figures.counter("odd", "a\nb", "", ("x",)).add(('say "hi"\\\n',))
    content_type, body = exposition({"0": figures, "1": restored(figures.snapshot())})
    families = {each.name: each for each in text_string_to_metric_families(body.decode())}

    assert content_type.startswith("text/plain; version=")
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for sample in families["grpc_client_attempt_duration_seconds"].samples
        if sample.name.endswith("_bucket") and sample.labels["worker"] == "1"
    ]
    assert buckets == [*((bound, float(bound >= 0.0007)) for bound in LATENCY), (float("inf"), 1)]
    odd = families["odd"].samples
    assert {sample.labels["worker"] for sample in odd} == {"0", "1"}
    assert odd[0].labels["x"] == 'say "hi"\\\n'
