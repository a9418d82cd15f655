"""
Slow start: an endpoint that has just become ready gets its share of calls little by little.

    share of its weight   1.0 |              ________
                              |        __--'
                        least |__--'
                              +----+----+----+----+-->  seconds since ready
                              0               window

A fresh process has cold caches and connections yet to make; a full share at once makes it slow, and
then a breaker opens on it.  When all are new, all shares are equal and nothing is slower.
"""

from __future__ import annotations

from dataclasses import dataclass

from mesh.policy import checks

# A window is walked up in so many steps, so that pickers are not rebuilt for every call.
STEPS = 10


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowStart:
    """The rule: seconds until the whole share, and the share to begin with."""

    window: float = 30.0
    least: float = 0.1
    # 1 rises in a straight line; above 1 rises faster at first.
    aggression: float = 1.0

    def __post_init__(self) -> None:
        checks.above_zero("slow_start", window=self.window, aggression=self.aggression)
        checks.share("slow_start", least=self.least)

    def share(self, age: float) -> float:
        """The part of its weight that an endpoint ready for `age` seconds gets."""
        if age >= self.window:
            return 1.0
        # "new_weight = weight * max(min_weight_percent, time_factor ^ (1 / aggression))" - Envoy
        step = int(max(0.0, age) / self.window * STEPS) / STEPS
        return max(self.least, float(step ** (1.0 / self.aggression)))
