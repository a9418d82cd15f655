"""
Client throttling: refuse here what the server would refuse anyway (SRE book, "Handling Overload").

    p(refuse) = max(0, (requests - k x accepts) / (requests + 1))       over the last seconds

A server that is overloaded spends work even on saying no.  What is refused here counts as a
request too, so the client backs off further until the server accepts again; one call a second
always goes through to find out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from mesh.call import Call
from mesh.errors import CallFailed, Code, Throttled
from mesh.flow import Inner, Layer, Steps
from mesh.policy import checks
from mesh.policy.window import TimeWindow

# What a server says when it has no room; every other status is an accepted call.
REFUSALS = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})


@dataclass(frozen=True, kw_only=True, slots=True)
class ClientThrottle:
    """The rule: let through `k` times as many calls as the server accepts."""

    # 2 lets twice as many through as are accepted; lower refuses earlier.
    k: float = 2.0
    # Seconds looked back.
    window: float = 10.0
    # With fewer calls in the window nothing is refused.
    minimum_calls: int = 20
    # Seconds after which one call is let through whatever the odds.
    force: float = 1.0

    def __post_init__(self) -> None:
        checks.between("client_throttle", 1, 100, k=self.k)
        checks.above_zero("client_throttle", window=self.window, force=self.force)
        checks.whole("client_throttle", 1, minimum_calls=self.minimum_calls)


class Acceptance:
    """The memory: how many calls were made lately, and how many were accepted."""

    __slots__ = ("_passed", "_window", "rule")

    def __init__(self, rule: ClientThrottle) -> None:
        self.rule = rule
        self._window = TimeWindow(rule.window)
        self._passed = 0.0

    def odds(self, now: float) -> float:
        """The probability with which a call is refused now."""
        calls, refused, _ = self._window.total(now)
        if calls < self.rule.minimum_calls:
            return 0.0
        return max(0.0, (calls - self.rule.k * (calls - refused)) / (calls + 1))

    def admit(self, now: float, rng: Random) -> None:
        """Let a call through, or raise Throttled."""
        odds = self.odds(now)
        if odds > 0 and now - self._passed < self.rule.force and rng.random() < odds:
            self.record(now, accepted=False)
            raise Throttled(f"the server refuses; {odds:.0%} of calls are refused here instead")
        self._passed = now

    def record(self, now: float, *, accepted: bool) -> None:
        """Count a call and whether the server took it."""
        self._window.add(now, not accepted, False)


def throttling(acceptance: Acceptance, clock: Callable[[], float], rng: Random) -> Layer:
    """Refuse calls with the odds at which the server would."""

    def layer(call: Call, inner: Inner) -> Steps:
        acceptance.admit(clock(), rng)
        try:
            reply = yield from inner(call)
        except CallFailed as failure:
            acceptance.record(clock(), accepted=failure.code not in REFUSALS)
            raise
        # A Rejected never came to the server, which therefore refused nothing: not counted.
        acceptance.record(clock(), accepted=True)
        return reply

    return layer
