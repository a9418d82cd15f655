"""
Adaptive concurrency limit: as many calls at once as a server does without queueing.

    a window of calls:  slowness = median of (seconds / what this method usually takes)
    slowness <= tolerance ....... the limit grows by its square root
    slowness >  tolerance ....... it sinks towards limit x tolerance / slowness
    limit not reached ........... nothing is learnt: it was not what held calls back

After Netflix's Gradient2, but method by method, so that a change in the mix of calls is not taken
for a change in speed.  What a method usually takes follows improvements at once, and a slowdown
only while at most `least` calls are in, so that no queue becomes the usual; a server that stays
slow sinks to `least`, and learns there.  Less critical calls may use only a part of the limit
(mesh/policy/criticality.py), so they are refused first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import sqrt
from statistics import median
from types import TracebackType
from typing import Self

from mesh.call import Call
from mesh.errors import CallFailed, Code, Overloaded
from mesh.flow import Inner, Layer, Steps
from mesh.policy import checks
from mesh.policy.criticality import Criticality

# More samples say nothing more about a window's median, and would have to be kept.
MOST_SAMPLES = 1000
MOST_METHODS = 1000
# Below this a duration is noise of the event loop, seconds.
SHORTEST = 0.001
# How much of the way to a window's mean the usual goes: down, and up.
BELIEVED, DOUBTED = 0.5, 0.1


@dataclass(frozen=True, kw_only=True, slots=True)
class AdaptiveLimit:
    """The rule; seconds, and calls at once."""

    # Well above what a healthy Python process needs: learning refuses nobody at first.
    initial: int = 100
    # Even a crawling server does so much at once, and so notices when it is fast again.
    least: int = 10
    most: int = 1000
    # The limit is judged anew after so long, once so many calls were answered.
    interval: float = 0.5
    samples: int = 20
    # Calls may take so many times as long as usual before that is called a queue.
    tolerance: float = 2.0
    # How much of the way down one window goes: an odd one takes a fifth at most.
    smoothing: float = 0.4
    # What a refused caller is told to wait.
    retry_after: float = 1.0

    def __post_init__(self) -> None:
        checks.whole("adaptive_limit", 1, most=self.most)
        checks.whole("adaptive_limit", 1, self.most, least=self.least)
        checks.whole("adaptive_limit", self.least, self.most, initial=self.initial)
        checks.whole("adaptive_limit", 1, MOST_SAMPLES, samples=self.samples)
        checks.above_zero("adaptive_limit", interval=self.interval, retry_after=self.retry_after)
        checks.between("adaptive_limit", 1, 10, tolerance=self.tolerance)
        checks.share("adaptive_limit", smoothing=self.smoothing)

    def within(self, maximum: int) -> AdaptiveLimit:
        """The same rule for whoever never takes more than `maximum` calls at once."""
        most = min(self.most, maximum)
        return replace(
            self, most=most, initial=min(self.initial, most), least=min(self.least, most)
        )


class Usual:
    """What one method usually takes, and what it took in the present window."""

    __slots__ = ("_count", "_total", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._total, self._count = 0.0, 0

    def add(self, seconds: float) -> float:
        """Take in one call; answers how many times slower than usual it was."""
        self._total += seconds
        self._count += 1
        return seconds / self.seconds

    def close(self, *, unhurried: bool) -> None:
        """End the window."""
        if self._count:
            change = self._total / self._count - self.seconds
            if change < 0:
                self.seconds += BELIEVED * change
            elif unhurried:
                self.seconds += DOUBTED * change
            self._total, self._count = 0.0, 0


class Concurrency:
    """The memory of one server: how many are in, and what it has learnt so far."""

    __slots__ = ("_peak", "_since", "_slowness", "_usual", "in_flight", "limit", "rule")

    def __init__(self, rule: AdaptiveLimit) -> None:
        self.rule = rule
        self.limit = float(rule.initial)
        self.in_flight = 0
        self._usual: dict[str, Usual] = {}
        self._slowness: list[float] = []
        self._peak = 0
        self._since: float | None = None

    def admit(
        self, now: float, level: Criticality = Criticality.CRITICAL, method: str = ""
    ) -> Slot:
        """Let a call in, or raise Overloaded; the slot is given back by `with`."""
        if self.in_flight >= max(1.0, self.limit * level.value):
            raise Overloaded(
                f"{self.in_flight} calls are in flight, {level.name} may use "
                f"{level.value:.0%} of {self.limit:.0f}",
                retry_after=self.rule.retry_after,
            )
        self.in_flight += 1
        self._peak = max(self._peak, self.in_flight)
        return Slot(self, method, now)

    def leave(self) -> None:
        """A call is over; slots call this."""
        self.in_flight -= 1

    def record(self, method: str, seconds: float, now: float) -> None:
        """Take in how long a call took; slots call this."""
        seconds = max(seconds, SHORTEST)
        usual = self._usual.get(method)
        if usual is None:
            if len(self._usual) >= MOST_METHODS:
                return
            usual = self._usual[method] = Usual(seconds)
        slowness = usual.add(seconds)
        if len(self._slowness) < MOST_SAMPLES:
            self._slowness.append(slowness)
        if self._since is None:
            self._since = now
        elif now - self._since >= self.rule.interval and len(self._slowness) >= self.rule.samples:
            self._judge(now)

    def record_cut(self, method: str, seconds: float, now: float) -> None:
        """The same for a call that was cut off: it would have taken at least so long."""
        usual = self._usual.get(method)
        if usual is None or seconds > usual.seconds:
            self.record(method, seconds, now)

    def _judge(self, now: float) -> None:
        if self._peak >= self.limit / 2:
            self._move(median(self._slowness))
        unhurried = self._peak <= self.rule.least
        for usual in self._usual.values():
            usual.close(unhurried=unhurried)
        self._slowness.clear()
        self._peak, self._since = self.in_flight, now

    def _move(self, slowness: float) -> None:
        rule = self.rule
        if slowness <= rule.tolerance:
            moved = self.limit + sqrt(self.limit)
        else:
            gradient = max(0.5, rule.tolerance / slowness)
            moved = self.limit * (1.0 - rule.smoothing * (1.0 - gradient))
        self.limit = min(float(rule.most), max(float(rule.least), moved))


class Slot:
    """One call's place; calling it with the time reports a proper answer."""

    __slots__ = ("_concurrency", "_method", "_since")

    def __init__(self, concurrency: Concurrency, method: str, since: float) -> None:
        self._concurrency, self._method, self._since = concurrency, method, since

    def __enter__(self) -> Self:
        return self

    def __call__(self, now: float) -> None:
        """The call was answered; failures are not reported: they are quick or slow of their own."""
        self._concurrency.record(self._method, now - self._since, now)

    def cut(self, now: float) -> None:
        """The call was cut off at its deadline, or its caller left."""
        self._concurrency.record_cut(self._method, now - self._since, now)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._concurrency.leave()


def shedding(concurrency: Concurrency, clock: Callable[[], float]) -> Layer:
    """Refuse calls beyond what the destination does without queueing; streams pass."""

    def layer(call: Call, inner: Inner) -> Steps:
        if call.method.streams_replies:
            # Quiet ones are no load, and how long they take says nothing.
            return (yield from inner(call))
        level, method = Criticality.of(call.criticality), call.method.name
        with concurrency.admit(clock(), level, method) as answered:
            try:
                reply = yield from inner(call)
            except CallFailed as failure:
                if failure.code is Code.DEADLINE_EXCEEDED:
                    # As slow as can be measured: it counts, or a hung server would look fast.
                    answered.cut(clock())
                raise
            answered(clock())
            return reply

    return layer
