"""
Local rate limit: so many calls a second, for all or for each value of a metadata key.

    bucket of `burst` tokens, refilled by `rate` a second; a call takes one, or is told when

Less critical calls must leave part of the bucket to others, so that a busy batch job is slowed
down before anybody notices.  Refused is RESOURCE_EXHAUSTED with the time until a token is there.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from mesh.call import Call
from mesh.errors import RateLimited
from mesh.flow import Inner, Layer, Steps
from mesh.policy import checks
from mesh.policy.criticality import Criticality


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """The rule: `rate` calls a second, `burst` at once."""

    rate: float
    burst: int = 1
    # The metadata key whose every value has a bucket of its own; None is one bucket for all.
    key: str | None = None
    # So many values are remembered; the one unseen for longest is forgotten first.
    keys: int = 10_000

    def __post_init__(self) -> None:
        checks.above_zero("rate_limit", rate=self.rate)
        checks.whole("rate_limit", 1, burst=self.burst, keys=self.keys)


class Meter:
    """The memory: the buckets, by value of the key."""

    __slots__ = ("_buckets", "rule")

    def __init__(self, rule: RateLimit) -> None:
        self.rule = rule
        # Tokens left, and when that was so.
        self._buckets: OrderedDict[str | bytes, tuple[float, float]] = OrderedDict()

    def take(self, key: str | bytes, now: float, level: Criticality = Criticality.CRITICAL) -> None:
        """Take a token from the bucket of `key`, or raise RateLimited."""
        rule = self.rule
        tokens, since = self._buckets.get(key, (float(rule.burst), now))
        tokens = min(float(rule.burst), tokens + max(0.0, now - since) * rule.rate)
        kept = rule.burst * (1.0 - min(1.0, level.value))
        # A bucket of one token has nothing to keep back.
        needed = 1.0 + kept if rule.burst > 1 else 1.0
        # A token that is there but for the float's rounding is there.
        granted = tokens >= needed - 1e-9
        self._buckets[key] = (max(0.0, tokens - 1.0) if granted else tokens, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > rule.keys:
            self._buckets.popitem(last=False)
        if not granted:
            wait = (needed - tokens) / rule.rate
            raise RateLimited(f"{rule.rate:g} calls a second are allowed", retry_after=wait)

    def key_of(self, call: Call) -> str | bytes:
        """Which bucket a call draws from."""
        if self.rule.key is None:
            return ""
        return next((value for name, value in call.metadata if name == self.rule.key), "")


def limiting(meter: Meter, clock: Callable[[], float]) -> Layer:
    """Refuse calls beyond the rate before any work is done for them."""

    def layer(call: Call, inner: Inner) -> Steps:
        meter.take(meter.key_of(call), clock(), Criticality.of(call.criticality))
        return (yield from inner(call))

    return layer
