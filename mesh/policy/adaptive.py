"""
Adaptive concurrency limit: as many calls at once as the server does without queueing.

    limit  <--  limit x gradient + sqrt(limit)        gradient = baseline / recent, 0.5 to 1

`baseline` is how fast this server answers unhurried, `recent` how fast it does now; when recent
answers take longer there is a queue, and the limit sinks until there is none.  The limit grows only
while it is used.  Less critical calls may use only part of it (mesh/policy/criticality.py), so they
are refused first; refused calls cost next to nothing and are told when to come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt
from types import TracebackType
from typing import Self

from mesh.call import Call
from mesh.errors import CallFailed, Code, Overloaded
from mesh.flow import Inner, Layer, Steps
from mesh.policy import checks
from mesh.policy.criticality import Criticality


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveLimit:
    """The rule; seconds."""

    # Calls at once: to begin with, never below, never above.
    initial: int = 20
    least: int = 4
    most: int = 1000
    # The limit is judged anew after so long, once so many calls were answered.
    interval: float = 1.0
    samples: int = 50
    # Answers may take so much longer than the baseline before that is called a queue.
    tolerance: float = 1.25
    # The baseline forgets: each interval it may rise by so much towards what is measured.
    drift: float = 0.02
    # What a refused caller is told to wait.
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        checks.whole("adaptive_limit", 1, self.most, least=self.least)
        checks.whole("adaptive_limit", self.least, self.most, initial=self.initial)
        checks.whole("adaptive_limit", 1, samples=self.samples)
        checks.above_zero("adaptive_limit", interval=self.interval, retry_after=self.retry_after)
        checks.between("adaptive_limit", 1, 10, tolerance=self.tolerance)
        checks.between("adaptive_limit", 0, 1, drift=self.drift)


class Concurrency:
    """The memory of one server: how many are in, and how long answers take."""

    __slots__ = ("_count", "_peak", "_since", "_sum", "baseline", "in_flight", "limit", "rule")

    def __init__(self, rule: AdaptiveLimit) -> None:
        self.rule = rule
        self.limit = float(rule.initial)
        self.in_flight = 0
        # Seconds an answer takes when nothing queues; None before the first interval.
        self.baseline: float | None = None
        self._since: float | None = None
        self._sum, self._count, self._peak = 0.0, 0, 0

    def admit(self, now: float, level: Criticality = Criticality.CRITICAL) -> Slot:
        """Let a call in, or raise Overloaded; the slot is given back by `with`."""
        if self.in_flight >= max(1.0, self.limit * level.value):
            raise Overloaded(
                f"{self.in_flight} calls are in flight, {level.name} may use "
                f"{level.value:.0%} of {self.limit:.0f}",
                retry_after=self.rule.retry_after,
            )
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        return Slot(self, now)

    def leave(self) -> None:
        """A call is over; slots call this."""
        self.in_flight -= 1

    def record(self, now: float, seconds: float) -> None:
        """Take in how long an answer took; slots call this."""
        self._sum += seconds
        self._count += 1
        if self._since is None:
            self._since = now
        elif now - self._since >= self.rule.interval and self._count >= self.rule.samples:
            self._judge(self._sum / self._count)
            self._since, self._sum, self._count, self._peak = now, 0.0, 0, self.in_flight

    def _judge(self, recent: float) -> None:
        rule = self.rule
        if self.baseline is None or recent < self.baseline:
            self.baseline = recent
        else:
            self.baseline += rule.drift * (recent - self.baseline)
        gradient = min(1.0, max(0.5, rule.tolerance * self.baseline / max(recent, 1e-9)))
        limit = self.limit * gradient + sqrt(self.limit)
        # A limit that was not reached says nothing about how far it could rise.
        if limit > self.limit and self._peak < self.limit * 0.8:
            return
        self.limit = min(float(rule.most), max(float(rule.least), limit))


class Slot:
    """One call's place; calling it with the time reports a proper answer."""

    __slots__ = ("_concurrency", "_since")

    def __init__(self, concurrency: Concurrency, since: float) -> None:
        self._concurrency, self._since = concurrency, since

    def __enter__(self) -> Self:
        return self

    def __call__(self, now: float) -> None:
        """The call was answered; failures and cancellations are not reported: they end early."""
        self._concurrency.record(now, now - self._since)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._concurrency.leave()


def shedding(concurrency: Concurrency, clock: Callable[[], float]) -> Layer:
    """Refuse calls beyond what the destination does without queueing: a guard's layer."""

    def layer(call: Call, inner: Inner) -> Steps:
        with concurrency.admit(clock(), Criticality.of(call.criticality)) as answered:
            try:
                reply = yield from inner(call)
            except CallFailed as failure:
                if failure.code is Code.DEADLINE_EXCEEDED:
                    # As slow as can be measured: it counts, or a hung server would look fast.
                    answered(clock())
                raise
            answered(clock())
            return reply

    return layer
