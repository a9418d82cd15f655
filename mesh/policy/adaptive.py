"""
Adaptive concurrency limit: as many calls at once as the server does without queueing.

    limit  <--  limit x gradient + sqrt(limit)        gradient = baseline / recent, 0.5 to 1

`baseline` is how fast this server answers unhurried: it is measured at the start and every minute
anew, with only a few calls let in, as Envoy does.  `recent` is how fast it answers now; when that
is slower there is a queue, and the limit sinks until there is none.  It grows only while used.
Less critical calls may use only part of it (mesh/policy/criticality.py), so they are refused first;
refused calls cost next to nothing and are told when to come back.
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
    # The baseline is measured anew after so long, with `least` calls at once.
    remeasure: float = 60.0
    # What a refused caller is told to wait.
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        checks.whole("adaptive_limit", 1, self.most, least=self.least)
        checks.whole("adaptive_limit", self.least, self.most, initial=self.initial)
        checks.whole("adaptive_limit", 1, samples=self.samples)
        checks.above_zero("adaptive_limit", interval=self.interval, retry_after=self.retry_after)
        checks.above_zero("adaptive_limit", remeasure=self.remeasure)
        checks.between("adaptive_limit", 1, 10, tolerance=self.tolerance)


class Concurrency:
    """The memory of one server: how many are in, and how long answers take."""

    __slots__ = (
        "_count",
        "_due",
        "_peak",
        "_since",
        "_sum",
        "baseline",
        "in_flight",
        "limit",
        "measuring",
        "rule",
    )

    def __init__(self, rule: AdaptiveLimit) -> None:
        self.rule = rule
        self.limit = float(rule.initial)
        self.in_flight = 0
        # Seconds an answer takes when nothing queues; None before it was measured.
        self.baseline: float | None = None
        # Whether only `least` calls are let in, to measure the baseline.
        self.measuring = True
        self._due = 0.0
        self._since: float | None = None
        self._sum, self._count, self._peak = 0.0, 0, 0

    def admit(self, now: float, level: Criticality = Criticality.CRITICAL) -> Slot:
        """Let a call in, or raise Overloaded; the slot is given back by `with`."""
        limit = self.rule.least if self.measuring else self.limit
        if self.in_flight >= max(1.0, limit * level.value):
            raise Overloaded(
                f"{self.in_flight} calls are in flight, {level.name} may use "
                f"{level.value:.0%} of {limit:.0f}",
                retry_after=self.rule.retry_after,
            )
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        return Slot(self, now, self.measuring)

    def leave(self) -> None:
        """A call is over; slots call this."""
        self.in_flight -= 1

    def record(self, now: float, seconds: float, *, measured: bool) -> None:
        """Take in how long an answer took; slots call this."""
        if self.measuring and not measured:
            # It began among many: it says nothing of how fast an answer is unhurried.
            return
        self._sum += seconds
        self._count += 1
        if self._since is None:
            self._since = now
        elif now - self._since >= self.rule.interval and self._count >= self.rule.samples:
            self._judge(self._sum / self._count, now)
            self._since, self._sum, self._count, self._peak = now, 0.0, 0, self.in_flight

    def _judge(self, recent: float, now: float) -> None:
        rule = self.rule
        if self.measuring or self.baseline is None:
            self.baseline, self.measuring = recent, False
            self._due = now + rule.remeasure
            return
        self.baseline = min(self.baseline, recent)
        gradient = min(1.0, max(0.5, rule.tolerance * self.baseline / max(recent, 1e-9)))
        limit = self.limit * gradient + sqrt(self.limit)
        # A limit that was not reached says nothing about how far it could rise.
        if limit <= self.limit or self._peak >= self.limit * 0.8:
            self.limit = min(float(rule.most), max(float(rule.least), limit))
        self.measuring = now >= self._due


class Slot:
    """One call's place; calling it with the time reports a proper answer."""

    __slots__ = ("_concurrency", "_measured", "_since")

    def __init__(self, concurrency: Concurrency, since: float, measured: bool) -> None:
        self._concurrency, self._since, self._measured = concurrency, since, measured

    def __enter__(self) -> Self:
        return self

    def __call__(self, now: float) -> None:
        """The call was answered; failures and cancellations are not reported: they end early."""
        self._concurrency.record(now, now - self._since, measured=self._measured)

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
