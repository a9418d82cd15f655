"""
How often a registry is asked: a backoff while it fails, a bucket while it answers too fast.

Both are pure: the time is an argument in seconds, and so is the source of randomness.
"""

from __future__ import annotations

from random import Random


class Backoff:
    """Waits that double from `first` to `most` seconds, each cut by up to half at random."""

    def __init__(self, first: float = 0.1, most: float = 2.0) -> None:
        self._first = first
        self._most = most
        self._failures = 0

    def failed(self, rng: Random) -> float:
        """Seconds to wait after one more failure."""
        ceiling = min(self._most, self._first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        # Jitter only shortens: the upper bound stays a bound.
        return ceiling * (1.0 - rng.random() / 2.0)

    def succeeded(self) -> None:
        self._failures = 0


class Bucket:
    """
    A token bucket that says how long to wait instead of refusing.

    Consul's documentation asks for one with a burst of 2 around every blocking query, since an
    agent may answer at once for ever.  Answers that brought nothing new cost a whole token; a real
    change costs little, so that a burst of changes is seen as it happens.
    """

    def __init__(self, *, burst: float = 2.0, rate: float = 1.0, now: float = 0.0) -> None:
        self._burst = burst
        self._rate = rate
        self._tokens = burst
        self._then = now

    def take(self, cost: float, now: float) -> float:
        """Take `cost` tokens and answer how many seconds to wait until they were there."""
        self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate)
        self._then = now
        self._tokens -= cost
        return max(0.0, -self._tokens / self._rate)
