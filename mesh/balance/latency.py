"""
Latency: a moving average of an endpoint's answers that believes bad news at once (peak EWMA).

    slower than the average  -->  the average is that now
    faster                   -->  it sinks towards it, by 1/e every `DECAY` seconds

It also sinks while nobody asks, or an endpoint once slow would never be asked again.
"""

from __future__ import annotations

from math import exp

# Seconds.
DECAY = 10.0


class Latency:
    """The memory of one endpoint; seconds an answer takes."""

    __slots__ = ("_heard", "_seconds")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._heard = 0.0

    def add(self, seconds: float, now: float) -> None:
        """Take in an answer."""
        kept = exp(-max(0.0, now - self._heard) / DECAY)
        old = self._seconds * kept
        self._seconds = seconds if seconds > old else old + seconds * (1.0 - kept)
        self._heard = now

    def at(self, now: float) -> float:
        """The average as it is believed now."""
        return self._seconds * exp(-max(0.0, now - self._heard) / DECAY)
