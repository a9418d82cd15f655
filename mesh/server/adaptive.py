"""
How much this server can really do at once, learnt from how long its calls take.

    a window of calls:  slowness = median of (latency / what this method usually takes)
    slowness <= tolerance ....... limit grows by a little (the square root of itself)
    slowness >  tolerance ....... limit shrinks towards limit * tolerance / slowness
    not busy .................... nothing is learnt: the limit was not what held calls back

After Netflix's Gradient2, but method by method, so that a change in the mix of calls is not taken
for a change in speed.  What a method usually takes follows improvements at once and a lasting
slowdown over `memory` seconds.  Pure: `now` comes in; not thread-safe.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from statistics import median

# More samples say nothing more about a window's median, and would have to be kept.
MOST_SAMPLES = 1000
MOST_METHODS = 1000
# Below this a latency is noise of the event loop, seconds.
SHORTEST = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class Adaptive:
    """The rule; times are float seconds, limits are calls in handlers at once."""

    # Even a crawling server does this much at once, and so notices when it is fast again.
    minimum: int = 10
    # Where learning begins: well above what a healthy Python process needs.
    initial: int = 100
    # A decision each window, if it has seen enough.
    window: float = 1.0
    samples: int = 20
    # Calls may take this many times as long as usual before anything is refused for it.
    tolerance: float = 2.0
    # How much of the way down one window goes: an odd one takes a tenth at most.
    smoothing: float = 0.2
    # A slowdown that lasts this long is the new usual.
    memory: float = 600.0


class Usual:
    """What one method usually takes, and what it took in the present window."""

    __slots__ = ("count", "seconds", "total")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.total = 0.0
        self.count = 0

    def add(self, seconds: float) -> float:
        """Record one call; answers how many times slower than usual it was."""
        self.total += seconds
        self.count += 1
        return seconds / self.seconds

    def close(self, elapsed: float, memory: float) -> None:
        """End the window: faster is believed at once, slower little by little."""
        if self.count:
            mean = self.total / self.count
            share = 0.5 if mean < self.seconds else min(1.0, elapsed / memory)
            self.seconds += share * (mean - self.seconds)
            self.total, self.count = 0.0, 0


class Capacity:
    """The memory of one server: `limit` is what it has learnt so far."""

    def __init__(self, rule: Adaptive, maximum: int, now: float) -> None:
        self.maximum = maximum
        self.limit = float(min(rule.initial, maximum))
        self._rule = rule
        self._usual: dict[str, Usual] = {}
        self._slowness: list[float] = []
        self._peak = 0
        self._began = now

    def record(self, method: str, seconds: float, in_flight: int, now: float) -> None:
        """One call has ended after *seconds*, with *in_flight* of them in progress."""
        self._peak = max(self._peak, in_flight)
        seconds = max(seconds, SHORTEST)
        usual = self._usual.get(method)
        if usual is None:
            if len(self._usual) >= MOST_METHODS:
                return
            usual = self._usual[method] = Usual(seconds)
        slowness = usual.add(seconds)
        if len(self._slowness) < MOST_SAMPLES:
            self._slowness.append(slowness)
        if now - self._began >= self._rule.window and len(self._slowness) >= self._rule.samples:
            self._decide(now)

    def _decide(self, now: float) -> None:
        if self._peak >= self.limit / 2:
            self._move(median(self._slowness))
        for usual in self._usual.values():
            usual.close(now - self._began, self._rule.memory)
        self._slowness.clear()
        self._peak, self._began = 0, now

    def _move(self, slowness: float) -> None:
        rule = self._rule
        if slowness <= rule.tolerance:
            moved = self.limit + sqrt(self.limit)
        else:
            gradient = max(0.5, rule.tolerance / slowness)
            moved = self.limit * (1.0 - rule.smoothing * (1.0 - gradient))
        self.limit = max(float(min(rule.minimum, self.maximum)), min(float(self.maximum), moved))
