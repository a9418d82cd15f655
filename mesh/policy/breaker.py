"""
Circuit breaker: stop calling what keeps failing, then ask again with a few calls.

    Breaker (the rule a user writes)  ->  Circuit (its memory)  ->  breaking() (the layer)

It sits inside the retry, per endpoint and method, and reads the true final status: one bad server
of three opens one circuit of three.  mesh/policy/circuit.py has the automaton.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mesh.call import Call
from mesh.errors import CallFailed, Code, PolicyError
from mesh.flow import Inner, Layer, Steps
from mesh.policy import checks
from mesh.policy.circuit import Circuit, State
from mesh.policy.illness import ILLNESS, Sign, sign_of
from mesh.policy.window import Total

__all__ = ["Breaker", "Circuit", "State", "breaking", "breaking_each"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Breaker:
    """
    The rule: open after `failures` in a row, or at a failure or slow-call rate; then probe.

    Times are seconds, rates are parts of 1.  A part that is None is not in force.
    """

    failures: int | None = 5
    failure_rate: float | None = None
    slow_rate: float | None = None
    # A call that takes longer is slow.
    slow_seconds: float = 60.0
    # Rates are taken over the last `window_calls`, or over the last `window_seconds` if given,
    # once there were `minimum_calls`.
    window_calls: int = 100
    window_seconds: float | None = None
    minimum_calls: int = 100
    # How long to leave the server alone: the first time, how much longer each time, at most.
    cooldown: float = 10.0
    growth: float = 2.0
    longest_cooldown: float = 60.0
    # How many calls are let through to find out; all must answer well (or the rates stay below).
    probes: int = 1
    # A probe that never answers must not keep the circuit half open; 0 waits for ever.
    probe_seconds: float = 30.0
    # What counts as failure, and the shortest wait that DEADLINE_EXCEEDED may blame a server for.
    codes: frozenset[Code] = ILLNESS
    floor: float = 0.1

    def __post_init__(self) -> None:
        checks.whole("breaker", 1, failures=self.failures, window_calls=self.window_calls)
        checks.whole("breaker", 1, minimum_calls=self.minimum_calls, probes=self.probes)
        checks.share("breaker", failure_rate=self.failure_rate, slow_rate=self.slow_rate)
        checks.above_zero("breaker", slow_seconds=self.slow_seconds, cooldown=self.cooldown)
        checks.above_zero("breaker", window_seconds=self.window_seconds)
        checks.not_negative("breaker", probe_seconds=self.probe_seconds, floor=self.floor)
        checks.between("breaker", 1, 100, growth=self.growth)
        rated = self.failure_rate is not None or self.slow_rate is not None
        if self.failures is None and not rated:
            raise PolicyError("breaker.failures", None, "leaves nothing that could trip it")
        if self.longest_cooldown < self.cooldown:
            why = f"is below breaker.cooldown {self.cooldown!r}"
            raise PolicyError("breaker.longest_cooldown", self.longest_cooldown, why)
        if rated and self.window_seconds is None and self.minimum_calls > self.window_calls:
            why = f"is above breaker.window_calls {self.window_calls!r}: it could never trip"
            raise PolicyError("breaker.minimum_calls", self.minimum_calls, why)
        object.__setattr__(self, "codes", frozenset(self.codes))

    @classmethod
    def textbook(cls) -> Breaker:
        """Five failures in a row open it for 30 s; two successes close it again."""
        return cls(failures=5, cooldown=30.0, growth=1.0, longest_cooldown=30.0, probes=2)

    def seconds_open(self, times: int) -> float:
        """How long the circuit stays open the n-th time in a row (1 is the first)."""
        return min(self.longest_cooldown, self.cooldown * self.growth ** min(times - 1, 64))

    def trips(self, total: Total) -> bool:
        """Whether what the window holds opens the circuit: at the threshold, not only above."""
        if total.calls < self.minimum_calls:
            return False
        return self._at(self.failure_rate, total.failures, total.calls) or self._at(
            self.slow_rate, total.slow, total.calls
        )

    def relapses(self, failed: int, slow: int) -> bool:
        """Whether so many bad probes settle it, whatever the rest will say."""
        if self.failure_rate is None and failed:
            return True
        return self._at(self.failure_rate, failed, self.probes) or self._at(
            self.slow_rate, slow, self.probes
        )

    def mends(self, answered: int, failed: int, slow: int) -> bool:
        """Whether the probes that are still out can change nothing any more."""
        out = self.probes - answered
        return not self.relapses(failed + out, slow + out)

    @staticmethod
    def _at(threshold: float | None, bad: int, calls: int) -> bool:
        return threshold is not None and bad > 0 and bad >= threshold * calls


def breaking(circuit: Circuit, clock: Callable[[], float]) -> Layer:
    """One circuit for all calls that come by: a guard around a single destination."""
    return breaking_each(lambda *_: circuit, circuit.rule, clock)


def breaking_each(
    circuit_of: Callable[[Call, Breaker], Circuit], rule: Breaker, clock: Callable[[], float]
) -> Layer:
    """A circuit for each call's own destination, on the true final status."""

    def layer(call: Call, inner: Inner) -> Steps:
        circuit, began = circuit_of(call, rule), clock()
        epoch = circuit.admit(began)
        try:
            reply = yield from inner(call)
        except CallFailed as failure:
            sign = sign_of(failure, call.remaining(began), codes=rule.codes, floor=rule.floor)
            if sign is Sign.SILENT:
                circuit.give_back(epoch)
            else:
                now = clock()
                circuit.record(epoch, now, now - began, sign is not Sign.ILL)
            raise
        except BaseException:
            # Refused below, or nobody waits any more: the server was not heard.
            circuit.give_back(epoch)
            raise
        now = clock()
        circuit.record(epoch, now, now - began, True)
        return reply

    return layer
