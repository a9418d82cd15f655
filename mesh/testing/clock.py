"""A clock that moves when told to, and dice that always fall the same way."""

from __future__ import annotations

from random import Random


class Clock:
    """A clock that moves only when told to."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass."""
        self.now += seconds


class Ceiling(Random):
    """A random source that always draws the upper bound."""

    def uniform(self, a: float, b: float) -> float:
        return max(a, b)

    def random(self) -> float:
        return 1.0 - 2**-53
