"""
Backoff: how long to wait before the next try, twice as long each time, give or take a fifth.

    try          1      2      3      4      5 ...
    seconds    0.05   0.1    0.2    0.4    0.8 ... 1.0     each times U(0.8, 1.2)

Jitter goes both ways: upward only, it would still bring a crowd back in step.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Backoff:
    """The rule; seconds.  What a retry, a relay or a saga waits before it tries again."""

    # The first wait.
    base: float = 0.05
    # No wait is longer, but for the jitter on top.
    cap: float = 1.0
    multiplier: float = 2.0
    # "Jitter of plus or minus 0.2 is applied to the backoff delay" - gRFC A6
    jitter: float = 0.2

    def __post_init__(self) -> None:
        checks.above_zero("backoff", base=self.base, cap=self.cap, multiplier=self.multiplier)
        checks.between("backoff", 0, 1, jitter=self.jitter)

    def seconds(self, failures: int) -> float:
        """The wait after so many failures (1 is the first), before jitter."""
        # Past this power every multiplier has met its cap, and a float would overflow.
        power = min(failures - 1, 64)
        # "min(initialBackoff*backoffMultiplier**(n-1), maxBackoff)" - gRFC A6
        return min(self.cap, self.base * self.multiplier**power)

    def delay(self, failures: int, rng: Random) -> float:
        """The wait after so many failures, with jitter: it may exceed `cap` by a fifth."""
        return self.seconds(failures) * rng.uniform(1 - self.jitter, 1 + self.jitter)
