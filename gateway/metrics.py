"""
The gateway's figures: what it answers, what it calls, how its strangled routes stand.

    http.server.request.duration, http.server.active_requests    OpenTelemetry, by route template
    grpc.client.*, grpc.lb.*, mesh.client.*                      mesh.telemetry.metrics, by service
    gateway.strangler.*, process.*, gateway.worker.up

A route is the template that the contract has, never a path that a client wrote; a request that no
route takes is counted under the route "none", a method that HTTP does not know as "_OTHER".
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from gateway.catalog import Entry
from gateway.strangler.plan import Mode
from gateway.strangler.shift import Shift
from mesh.telemetry.events import Emit
from mesh.telemetry.figures import Figures
from mesh.telemetry.metrics import ClientMetrics

# "ExplicitBucketBoundaries of [0.005, 0.01, ...]" - OpenTelemetry's conventions for HTTP metrics
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
# "If the HTTP request method is not known to instrumentation, it MUST set [...] to `_OTHER`."
METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"}
)
NO_ROUTE = "none"
STATM = Path("/proc/self/statm")


class GatewayMetrics:
    """What one process of the gateway counts."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.figures = Figures()
        self.clock = clock
        self._clients = ClientMetrics(self.figures)
        self._requests = self.figures.histogram(
            "http.server.request.duration",
            "Time until a request was answered whole",
            "s",
            ("http.request.method", "http.route", "http.response.status_code"),
            SECONDS,
        )
        self._active = self.figures.gauge(
            "http.server.active_requests", "Requests being answered", "{request}", ()
        )
        self._started = time.time()

    def client(self, service: str, known: Callable[[str], bool]) -> Emit:
        """What the channel to a service tells its calls to."""
        return self._clients.of(service, known)

    def answered(self, method: str, route: str, status: int, began: float) -> None:
        """A request that `began` then was answered."""
        method = method if method in METHODS else "_OTHER"
        self._requests.observe((method, route, str(status)), self.clock() - began)

    def now(self, active: int, shifts: Mapping[str, Shift]) -> Figures:
        """Everything, with what is only looked at when somebody asks."""
        self._active.set((), active)
        for name, shift in shifts.items():
            self._strangled(name, shift)
        self._process()
        return self.figures

    def _strangled(self, name: str, shift: Shift) -> None:
        figures = self.figures
        requests = figures.counter(
            "gateway.strangler.requests",
            "Requests of strangled routes, by the side that answered",
            "{request}",
            ("route", "side", "outcome"),
        )
        shadows = figures.counter(
            "gateway.strangler.shadows",
            "Shadows and what became of them",
            "{call}",
            ("route", "outcome"),
        )
        for (side, outcome), count in shift.counts.items():
            requests.set((name, side, outcome), count)
        for outcome, count in shift.shadows.counts.items() if shift.shadows is not None else ():
            shadows.set((name, outcome), count)
        standing = shift.standing
        figures.gauge(
            "gateway.strangler.percent", "How far a route has moved", "{percent}", ("route",)
        ).set((name,), standing.percent)
        figures.gauge(
            "gateway.strangler.aborted", "1 where a route was moved back", "{route}", ("route",)
        ).set((name,), float(standing.mode is Mode.ABORTED))

    def _process(self) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        figures = self.figures
        figures.counter("process.cpu", "CPU time", "s", ()).set((), used.ru_utime + used.ru_stime)
        figures.gauge("process.start_time", "Since 1970", "s", ()).set((), self._started)
        try:
            pages = int(STATM.read_text().split()[1])
        except OSError:  # no Linux
            return
        memory = figures.gauge("process.resident_memory", "Resident memory", "By", ())
        memory.set((), pages * os.sysconf("SC_PAGE_SIZE"))


@lru_cache(maxsize=4096)
def route_of(entry: Entry) -> str:
    """An entry's template as a label."""
    return str(entry.template)


def up(figures: dict[str, Figures], missing: list[str]) -> dict[str, Figures]:
    """The figures of all workers, and which of them have told theirs."""
    for worker, found in figures.items():
        if worker:
            _up(found, 1.0)
    for worker in missing:
        figures[worker] = Figures()
        _up(figures[worker], 0.0)
    return figures


def _up(figures: Figures, value: float) -> None:
    told = figures.gauge("gateway.worker.up", "1 where a worker tells its figures", "{worker}", ())
    told.set((), value)
