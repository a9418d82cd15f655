"""
Outlier detection: leave out for a while whoever answers much worse than its peers (gRFC A50).

    answers --> tallies --> sweep, every interval --> ejected --> back after base x multiplier
                   \\--> `consecutive_errors` in a row: at once --^            |
                                                       ^-- fails <-- on trial --> answers: well

It looks across methods and compares endpoints, where a breaker looks at one endpoint and method.
A50 leaves consecutive errors out because a balancer cannot see them; a layer sees the final status.
Who comes back is on trial until its first answer: a server that still hangs costs one call more,
not `consecutive_errors` each time, and for a while no call that could not be made again elsewhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, pstdev

from mesh.errors import PolicyError
from mesh.policy import checks
from mesh.telemetry.events import Emit, EndpointEjected, EndpointReturned


@dataclass(frozen=True, kw_only=True, slots=True)
class SuccessRate:
    """Eject whose success rate is below mean - stdev x `stdev_factor` / 1000."""

    stdev_factor: int = 1900
    # Percent: 0 only says what would have been ejected.
    enforcement_percentage: int = 100
    # Only when so many endpoints had so many calls in the interval.
    minimum_hosts: int = 5
    request_volume: int = 100

    def __post_init__(self) -> None:
        checks.whole("outlier.success_rate", 0, stdev_factor=self.stdev_factor)
        checks.whole("outlier.success_rate", 0, 100, enforcement=self.enforcement_percentage)
        checks.whole("outlier.success_rate", 1, minimum_hosts=self.minimum_hosts)
        checks.whole("outlier.success_rate", 1, request_volume=self.request_volume)


@dataclass(frozen=True, kw_only=True, slots=True)
class FailurePercentage:
    """Eject whose failures are `threshold` percent or more."""

    threshold: int = 85
    enforcement_percentage: int = 100
    minimum_hosts: int = 5
    request_volume: int = 50

    def __post_init__(self) -> None:
        checks.whole("outlier.failure_percentage", 0, 100, threshold=self.threshold)
        checks.whole("outlier.failure_percentage", 0, 100, enforcement=self.enforcement_percentage)
        checks.whole("outlier.failure_percentage", 1, minimum_hosts=self.minimum_hosts)
        checks.whole("outlier.failure_percentage", 1, request_volume=self.request_volume)


@dataclass(frozen=True, kw_only=True, slots=True)
class Outlier:
    """The rule; seconds and percent, with A50's names and numbers."""

    interval: float = 10.0
    # Ejected for base x how often it was lately, up to the longest.
    base_ejection_time: float = 30.0
    max_ejection_time: float = 300.0
    # No more are ejected once so many are; one always may be.
    max_ejection_percent: int = 10
    success_rate: SuccessRate | None = SuccessRate()
    failure_percentage: FailurePercentage | None = FailurePercentage()
    # Ours: so many failures in a row eject at once; None leaves it out.
    consecutive_errors: int | None = 5

    def __post_init__(self) -> None:
        checks.above_zero("outlier", interval=self.interval)
        checks.above_zero("outlier", base_ejection_time=self.base_ejection_time)
        checks.above_zero("outlier", max_ejection_time=self.max_ejection_time)
        checks.whole("outlier", 0, 100, max_ejection_percent=self.max_ejection_percent)
        checks.whole("outlier", 1, consecutive_errors=self.consecutive_errors)
        rules = (self.success_rate, self.failure_percentage, self.consecutive_errors)
        if rules == (None, None, None):
            raise PolicyError("outlier", None, "leaves nothing that could eject an endpoint")


class Tally:
    """The memory of one endpoint: this interval's answers, the last one's, and its ejections."""

    __slots__ = (
        "ejected_at",
        "failures",
        "last",
        "multiplier",
        "name",
        "on_trial",
        "spared_until",
        "streak",
        "successes",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.successes = self.failures = 0
        # (successes, failures) of the interval that has just ended.
        self.last = (0, 0)
        self.streak = 0
        self.ejected_at: float | None = None
        self.multiplier = 0
        # Back from an ejection, and no answer yet; until when what may be done only once is spared
        # finding out.
        self.on_trial = False
        self.spared_until = 0.0

    def succeeded(self) -> None:
        """Count an answer that shows a server at work."""
        self.successes += 1
        self.streak = 0
        self.on_trial = False

    def failed(self) -> None:
        """Count any other."""
        self.failures += 1
        self.streak += 1


class Detector:
    """The memory of one target: when to look next, and who is left out."""

    def __init__(self, rule: Outlier, rng: Random, emit: Emit) -> None:
        self.rule = rule
        self._rng = rng
        self._emit = emit
        self.due: float | None = None

    def sweep(self, tallies: Sequence[Tally], now: float) -> None:
        """Judge the interval that has ended, and let back whose time is over."""
        # "For each address, swap the call counter's buckets" - gRFC A50
        for tally in tallies:
            tally.last = (tally.successes, tally.failures)
            tally.successes = tally.failures = 0
        self._judge_success_rate(tallies, now)
        self._judge_failure_percentage(tallies, now)
        for tally in tallies:
            if tally.ejected_at is None:
                # "If the address is not ejected and the multiplier is greater than 0, decrease
                # the multiplier by 1." - gRFC A50
                tally.multiplier = max(0, tally.multiplier - 1)
            elif now > self.returns_at(tally):
                tally.ejected_at = None
                tally.on_trial = self.rule.consecutive_errors is not None
                tally.spared_until = now + self.rule.base_ejection_time
                self._emit(EndpointReturned(tally.name))
        self.due = now + self.rule.interval

    def returns_at(self, tally: Tally) -> float:
        """When an ejected endpoint may come back, at the sweep after."""
        rule, since = self.rule, tally.ejected_at or 0.0
        # "min(base_ejection_time * multiplier, max(base_ejection_time, max_ejection_time))" - A50
        longest = max(rule.base_ejection_time, rule.max_ejection_time)
        return since + min(rule.base_ejection_time * tally.multiplier, longest)

    def failed(self, tally: Tally, tallies: Sequence[Tally], now: float) -> bool:
        """Count a failure; True when it ejects the endpoint on the spot."""
        tally.failed()
        enough = self.rule.consecutive_errors
        if enough is None or tally.ejected_at is not None:
            return False
        if tally.streak < enough and not tally.on_trial:
            return False
        tally.streak = 0
        tally.on_trial = False
        return self._eject(tally, tallies, now, "consecutive_errors", 100)

    def _judge_success_rate(self, tallies: Sequence[Tally], now: float) -> None:
        rule = self.rule.success_rate
        if rule is None:
            return
        rates = {t.name: t.last[0] / sum(t.last) for t in _busy(tallies, rule.request_volume)}
        # "If the number of addresses with request volume of at least [...] is less than
        # minimum_hosts, stop." - gRFC A50
        if len(rates) < rule.minimum_hosts:
            return
        mean, stdev = fmean(rates.values()), pstdev(rates.values())
        threshold = mean - stdev * (rule.stdev_factor / 1000)
        for tally in tallies:
            if tally.name in rates and rates[tally.name] < threshold:
                self._eject(tally, tallies, now, "success_rate", rule.enforcement_percentage)

    def _judge_failure_percentage(self, tallies: Sequence[Tally], now: float) -> None:
        rule = self.rule.failure_percentage
        if rule is None:
            return
        busy = _busy(tallies, rule.request_volume)
        if len(busy) < rule.minimum_hosts:
            return
        for tally in busy:
            # A50's text says at least, its algorithm says more than; Envoy takes at least.
            if 100 * tally.last[1] >= rule.threshold * sum(tally.last) and tally.last[1]:
                self._eject(tally, tallies, now, "failure_percentage", rule.enforcement_percentage)

    def _eject(
        self, tally: Tally, tallies: Sequence[Tally], now: float, why: str, enforcement: int
    ) -> bool:
        if tally.ejected_at is not None:
            return False
        ejected = sum(1 for other in tallies if other.ejected_at is not None)
        # "If the percentage of ejected addresses is greater than or equal to
        # max_ejection_percent, stop." - gRFC A50
        if 100 * ejected >= self.rule.max_ejection_percent * len(tallies):
            self._emit(EndpointEjected(tally.name, why, 0.0, "max_ejection_overflow"))
            return False
        # "choose a random integer in [0, 100)" - gRFC A50
        if self._rng.random() * 100 >= enforcement:
            self._emit(EndpointEjected(tally.name, why, 0.0, "enforcement_percentage"))
            return False
        tally.ejected_at = now
        tally.multiplier += 1
        self._emit(EndpointEjected(tally.name, why, self.returns_at(tally) - now))
        return True


def _busy(tallies: Sequence[Tally], volume: int) -> list[Tally]:
    """Who had enough calls in the interval to be judged."""
    return [tally for tally in tallies if sum(tally.last) >= volume]
