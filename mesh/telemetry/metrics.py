"""
Calls as figures, by gRPC's own names: what channels tell (mesh.telemetry.events), counted.

    figures = Figures()
    mesh.Channel("orders", emit=ClientMetrics(figures).of("orders"))

    grpc.client.attempt.started, .duration, grpc.client.call.duration                  gRFC A66
    grpc.client.call.retries, .transparent_retries, .hedges, .retry_delay              gRFC A96
    grpc.lb.outlier_detection.ejections_enforced, .ejections_unenforced                gRFC A91
    mesh.client.*                                        refusals, circuits, fallbacks, endpoints

The sizes of messages (A66's *_total_compressed_message_size) are not among them: no event tells
them.  "unregistered/generic method names should by default be reported with "other" value" - A66:
which methods are registered is what `known` says.
"""

from __future__ import annotations

from collections.abc import Callable

from mesh.telemetry.events import (
    AttemptEnded,
    AttemptStarted,
    CallEnded,
    CallRejected,
    CircuitChanged,
    Emit,
    EndpointEjected,
    EndpointsChanged,
    Event,
    FaultInjected,
    FellBack,
    Hedged,
    PolicyRefused,
    Retried,
    RetryRefused,
)
from mesh.telemetry.figures import OTHER, Figures

# "Latency : 0, 0.00001, 0.00005, ..." - gRFC A66
LATENCY = (
    *(0, 0.00001, 0.00005, 0.0001, 0.0003, 0.0006, 0.0008, 0.001, 0.002, 0.003, 0.004, 0.005),
    *(0.006, 0.008, 0.01, 0.013, 0.016, 0.02, 0.025, 0.03, 0.04, 0.05, 0.065, 0.08, 0.1, 0.13),
    *(0.16, 0.2, 0.25, 0.3, 0.4, 0.5, 0.65, 0.8, 1, 2, 5, 10, 20, 50, 100),
)
# "Recommended histogram bucket boundaries are [1,2,3,4,5]", and 10 for transparent ones - gRFC A96
REPEATS = (1, 2, 3, 4, 5)
RESENDS = (1, 2, 3, 4, 5, 10)
METHOD, TARGET, STATUS = "grpc.method", "grpc.target", "grpc.status"
DETECTION = "grpc.lb.outlier_detection.detection_method"
UNENFORCED = "grpc.lb.outlier_detection.unenforced_reason"
# So many calls may be under way with repetitions of theirs noted.
MOST_NOTED = 10_000

Known = Callable[[str], bool]


class _Repeats:
    """What one call has repeated so far."""

    __slots__ = ("delay", "hedges", "retries", "transparent")

    def __init__(self) -> None:
        self.retries = self.transparent = self.hedges = 0
        self.delay = 0.0


class ClientMetrics:
    """The instruments of all channels of a process."""

    def __init__(self, figures: Figures) -> None:
        by_method, by_status = (METHOD, TARGET), (METHOD, TARGET, STATUS)
        self.started = figures.counter(
            "grpc.client.attempt.started", "RPC attempts started", "{attempt}", by_method
        )
        self.attempt = figures.histogram(
            "grpc.client.attempt.duration", "Time an attempt took", "s", by_status, LATENCY
        )
        self.call = figures.histogram(
            "grpc.client.call.duration", "Time a call took, all in all", "s", by_status, LATENCY
        )
        self.retries = figures.histogram(
            "grpc.client.call.retries", "Retries during a call", "{retry}", by_method, REPEATS
        )
        self.transparent = figures.histogram(
            "grpc.client.call.transparent_retries",
            "Transparent retries during a call",
            "{transparent_retry}",
            by_method,
            RESENDS,
        )
        self.hedges = figures.histogram(
            "grpc.client.call.hedges", "Hedges during a call", "{hedge}", by_method, REPEATS
        )
        self.delay = figures.histogram(
            "grpc.client.call.retry_delay",
            "Time without an active attempt during a call",
            "s",
            by_method,
            LATENCY,
        )
        self.ejected = figures.counter(
            "grpc.lb.outlier_detection.ejections_enforced",
            "Outliers ejected",
            "{ejection}",
            (TARGET, DETECTION),
        )
        self.spared = figures.counter(
            "grpc.lb.outlier_detection.ejections_unenforced",
            "Outliers found and not ejected",
            "{ejection}",
            (TARGET, DETECTION, UNENFORCED),
        )
        self.refused = figures.counter(
            "mesh.client.calls.refused",
            "Calls that a policy refused before they left",
            "{call}",
            (*by_method, "reason"),
        )
        self.unrepeated = figures.counter(
            "mesh.client.retries.refused",
            "Failed attempts that were not repeated",
            "{attempt}",
            (*by_method, "why"),
        )
        self.circuits = figures.counter(
            "mesh.client.circuit.changes", "Circuits that changed", "{change}", (*by_method, "to")
        )
        self.fallbacks = figures.counter(
            "mesh.client.fallbacks", "Calls answered by a fallback", "{call}", by_method
        )
        self.faults = figures.counter(
            "mesh.client.faults", "Faults injected", "{fault}", (*by_method, "kind")
        )
        self.policies = figures.counter(
            "mesh.client.policies.refused", "Policies that made no sense", "{policy}", (TARGET,)
        )
        self.endpoints = figures.gauge(
            "mesh.client.endpoints", "Endpoints, by what they are", "{endpoint}", (TARGET, "state")
        )

    def of(self, target: str, known: Known = lambda method: True) -> Emit:
        """What a channel to `target` emits into; `known` says whether a method is registered."""
        return _Listener(self, target, known)


class _Listener:
    """The `emit` of one channel."""

    def __init__(self, metrics: ClientMetrics, target: str, known: Known) -> None:
        self._metrics = metrics
        self._target = target
        self._known = known
        # By the call's span; gone when the call ends.
        self._repeats: dict[str, _Repeats] = {}
        self._names: dict[str, tuple[str, str]] = {}

    def __call__(self, event: Event) -> None:
        hear = _HEARD.get(type(event))
        if hear is not None:
            hear(self, event)

    def _by_method(self, method: str) -> tuple[str, str]:
        labels = self._names.get(method)
        if labels is None:
            if not self._known(method):
                return (OTHER, self._target)
            labels = self._names[method] = (method.lstrip("/"), self._target)
        return labels

    def _attempt_started(self, event: AttemptStarted) -> None:
        self._metrics.started.add(self._by_method(event.method))

    def _attempt_ended(self, event: AttemptEnded) -> None:
        labels = (*self._by_method(event.method), event.code)
        self._metrics.attempt.observe(labels, event.seconds)

    def _call_ended(self, event: CallEnded) -> None:
        labels = self._by_method(event.method)
        metrics = self._metrics
        metrics.call.observe((*labels, event.code), event.seconds)
        repeats = None
        if self._repeats and event.span is not None:
            repeats = self._repeats.pop(event.span.span_id, None)
        # "Total time of delay while there is no active attempt" - gRFC A96; of every call
        metrics.delay.observe(labels, repeats.delay if repeats is not None else 0.0)
        if repeats is None:
            return
        # "If there were no retries, 0 is not reported." - gRFC A96
        for instrument, many in (
            (metrics.retries, repeats.retries),
            (metrics.transparent, repeats.transparent),
            (metrics.hedges, repeats.hedges),
        ):
            if many:
                instrument.observe(labels, many)

    def _retried(self, event: Retried) -> None:
        if (repeats := self._noted(event.span_id)) is not None:
            repeats.delay += event.delay
            if event.transparent:
                repeats.transparent += 1
            else:
                repeats.retries += 1

    def _hedged(self, event: Hedged) -> None:
        if (repeats := self._noted(event.span_id)) is not None:
            repeats.hedges += 1

    def _noted(self, span_id: str) -> _Repeats | None:
        if span_id not in self._repeats and len(self._repeats) >= MOST_NOTED:
            return None
        return self._repeats.setdefault(span_id, _Repeats())

    def _ejected(self, event: EndpointEjected) -> None:
        if event.unenforced:
            self._metrics.spared.add((self._target, event.why, event.unenforced))
        else:
            self._metrics.ejected.add((self._target, event.why))

    def _rejected(self, event: CallRejected) -> None:
        self._metrics.refused.add((*self._by_method(event.method), event.reason))

    def _unrepeated(self, event: RetryRefused) -> None:
        self._metrics.unrepeated.add((*self._by_method(event.method), event.why))

    def _circuit(self, event: CircuitChanged) -> None:
        self._metrics.circuits.add((*self._by_method(event.method), event.after.lower()))

    def _fell_back(self, event: FellBack) -> None:
        self._metrics.fallbacks.add(self._by_method(event.method))

    def _fault(self, event: FaultInjected) -> None:
        self._metrics.faults.add((*self._by_method(event.method), event.kind))

    def _policy_refused(self, _: PolicyRefused) -> None:
        self._metrics.policies.add((self._target,))

    def _endpoints(self, event: EndpointsChanged) -> None:
        gauge = self._metrics.endpoints
        gauge.set((self._target, "known"), event.known)
        gauge.set((self._target, "picked"), event.picked)
        gauge.set((self._target, "panic"), float(event.panic))


_HEARD: dict[type, Callable[..., None]] = {
    AttemptStarted: _Listener._attempt_started,  # noqa: SLF001  its own
    AttemptEnded: _Listener._attempt_ended,  # noqa: SLF001
    CallEnded: _Listener._call_ended,  # noqa: SLF001
    Retried: _Listener._retried,  # noqa: SLF001
    Hedged: _Listener._hedged,  # noqa: SLF001
    EndpointEjected: _Listener._ejected,  # noqa: SLF001
    CallRejected: _Listener._rejected,  # noqa: SLF001
    RetryRefused: _Listener._unrepeated,  # noqa: SLF001
    CircuitChanged: _Listener._circuit,  # noqa: SLF001
    FellBack: _Listener._fell_back,  # noqa: SLF001
    FaultInjected: _Listener._fault,  # noqa: SLF001
    PolicyRefused: _Listener._policy_refused,  # noqa: SLF001
    EndpointsChanged: _Listener._endpoints,  # noqa: SLF001
}
