"""
A policy is data: one frozen record of rules, equal by value, checked when it is made.

    Policy                       for a target
      timeout, retry, breaker, ...   for all its methods (Rules)
      balance, outlier, ...          for the target itself
      methods                        "pkg.Service" or "pkg.Service/Method" -> Rules of their own

A rule that is None is a layer that is not there.  The rules of a method replace the policy's
whole, as in gRPC's methodConfig; `override` starts from the policy's and changes what it is told.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any, Self

from mesh.balance.least_request import LeastRequest
from mesh.balance.picker import Balance
from mesh.balance.pool import Arrangement
from mesh.balance.slow_start import SlowStart
from mesh.balance.split import Split
from mesh.balance.subset import Subset
from mesh.balance.zones import Zones
from mesh.errors import PolicyError
from mesh.policy import checks
from mesh.policy.adaptive import AdaptiveLimit
from mesh.policy.breaker import Breaker
from mesh.policy.bulkhead import Bulkhead
from mesh.policy.fallback import Fallback
from mesh.policy.fault import Fault
from mesh.policy.hedge import Hedge
from mesh.policy.limit import RateLimit
from mesh.policy.outlier import FailurePercentage, Outlier
from mesh.policy.retry import Retry
from mesh.policy.throttle import ClientThrottle

RULES: Mapping[str, type] = {
    "retry": Retry,
    "hedge": Hedge,
    "breaker": Breaker,
    "bulkhead": Bulkhead,
    "rate_limit": RateLimit,
    "throttle": ClientThrottle,
    "concurrency": AdaptiveLimit,
    "fallback": Fallback,
    "fault": Fault,
}
TARGET_RULES: Mapping[str, type] = {
    "outlier": Outlier,
    "subset": Subset,
    "zones": Zones,
    "slow_start": SlowStart,
    "split": Split,
    "health_check": str,
}


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What happens to calls of a method."""

    # The longest a call may take, seconds; a caller may ask for less.  None or 0: no limit.
    timeout: float | None = None
    # The longest one attempt may take, seconds.
    attempt_timeout: float | None = None
    # Of what is left of the call being served, so many seconds are kept back to answer it.
    reserve: float = 0.01
    # A call with fewer seconds left is refused before any work is done for it.
    floor: float = 0.005
    # Wait for an endpoint to become ready, up to the deadline, when the call does not say.
    wait_for_ready: bool = False
    retry: Retry | None = None
    hedge: Hedge | None = None
    breaker: Breaker | None = None
    bulkhead: Bulkhead | None = None
    rate_limit: RateLimit | None = None
    throttle: ClientThrottle | None = None
    concurrency: AdaptiveLimit | None = None
    fallback: Fallback | None = None
    fault: Fault | None = None

    def __post_init__(self) -> None:
        checks.not_negative("policy", timeout=self.timeout, reserve=self.reserve, floor=self.floor)
        checks.above_zero("policy", attempt_timeout=self.attempt_timeout)
        for name, kind in RULES.items():
            _is_a(kind, f"policy.{name}", getattr(self, name))
        if self.retry is not None and self.hedge is not None:
            # "a method may have retryPolicy or hedgingPolicy, not both" - gRFC A6
            raise PolicyError("policy.hedge", self.hedge, "stands beside a retry: choose one")
        if not isinstance(self.wait_for_ready, bool):
            raise PolicyError("policy.wait_for_ready", self.wait_for_ready, "is not true or false")


@dataclass(frozen=True, kw_only=True)
class Policy(Rules):
    """The rules for one target and, by name, for some of its services and methods."""

    # Who is asked: LeastRequest() unless told.
    balance: Balance = field(default_factory=LeastRequest)
    # The budget that retries and hedges of all methods share holds so many failures.
    retry_tokens: int = 10
    outlier: Outlier | None = None
    # With fewer than this part of the reachable endpoints well, all are asked.
    panic_threshold: float = 0.5
    subset: Subset | None = None
    zones: Zones | None = None
    slow_start: SlowStart | None = None
    split: Split | None = None
    # Whose health each connection watches (grpc.health.v1); "" is the server's as a whole, None
    # watches nothing.
    health_check: str | None = None
    methods: Mapping[str, Rules] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        checks.whole("policy", 1, 1000, retry_tokens=self.retry_tokens)
        checks.between("policy", 0, 1, panic_threshold=self.panic_threshold)
        for name, kind in TARGET_RULES.items():
            _is_a(kind, f"policy.{name}", getattr(self, name))
        if not hasattr(self.balance, "picker"):
            raise PolicyError("policy.balance", self.balance, "is not a balance rule")
        for name, rules in self.methods.items():
            service, _, method = name.partition("/")
            if not service or "/" in method:
                raise PolicyError("policy.methods", name, 'is not "Service" or "Service/Method"')
            if not isinstance(rules, Rules) or isinstance(rules, Policy):
                raise PolicyError(f"policy.methods[{name}]", rules, "is not a Rules record")
        object.__setattr__(self, "methods", MappingProxyType(dict(self.methods)))

    def __hash__(self) -> int:
        return hash((self.timeout, self.retry, self.breaker, tuple(sorted(self.methods))))

    def __str__(self) -> str:
        """The file that it could be read from; what only code can say prints as in code."""
        from mesh.policy.service_config import dump  # noqa: PLC0415 - it reads policies, of here

        try:
            return dump(self)
        except PolicyError:
            return repr(self)

    @property
    def arrangement(self) -> Arrangement:
        """The part of the policy that says who is asked."""
        return Arrangement(
            balance=self.balance,
            panic_threshold=self.panic_threshold,
            outlier=self.outlier,
            subset=self.subset,
            zones=self.zones,
            slow_start=self.slow_start,
            split=self.split,
        )

    def scope(self, method: str) -> str:
        """Which entry of `methods` holds for the method of this path: its key, "" for none."""
        name = method.lstrip("/")
        service = name.partition("/")[0]
        return name if name in self.methods else service if service in self.methods else ""

    def rules(self, method: str) -> Rules:
        """The rules for the method of this path: its own, its service's, else the policy's."""
        return self.rules_of(self.scope(method))

    def rules_of(self, scope: str) -> Rules:
        """The rules of a scope."""
        return self.methods[scope] if scope else self

    def override(self, name: str, **changes: Any) -> Self:
        """A policy that treats the service or method `name` as before, but for `changes`."""
        start = self.rules(name)
        known = {item.name: getattr(start, item.name) for item in fields(Rules)}
        for change, value in changes.items():
            if change not in known:
                raise PolicyError(f"policy.methods[{name}].{change}", value, "is for whole targets")
        return replace(self, methods={**self.methods, name: Rules(**{**known, **changes})})

    @classmethod
    def production(cls) -> Self:
        """Defaults that an engineer on call would sign; each with its unit and reason."""
        return cls(
            # s: a caller who gave no deadline still gets one, or a hung server holds it for ever.
            timeout=10.0,
            retry=Retry(
                # Two more places to ask; more rarely helps and always adds load.
                attempts=3,
                # s: longer than a packet's loss, shorter than a person notices.
                base=0.05,
                # s: a second attempt later than this is for the caller to decide.
                cap=1.0,
                # Of each success; in an outage retries add a tenth to the load, not twice it.
                budget=0.1,
            ),
            breaker=Breaker(
                # By rate, not in a row: a pause of half a second fails many calls at once, which
                # is one event; `outlier` below finds a single server that is ill much sooner.
                failures=None,
                # Of the calls to one endpoint and method: most of them, for some time.
                failure_rate=0.5,
                # s: looked back; half of it is how soon a busy endpoint's outage is believed.
                window_seconds=10.0,
                # Fewer calls than that in the window prove nothing.
                minimum_calls=20,
                # s: one call then asks again; cheap, and it grows to
                cooldown=1.0,
                # s: so that callers notice soon that an outage is over, three hops away too.
                longest_cooldown=2.0,
            ),
            # Calls in flight, many times what a healthy target needs; a hung one cannot take all.
            bulkhead=Bulkhead(limit=1000, queue=100, wait=0.1),
            # Two choices: even load, and hung servers are noticed by their queue alone.
            balance=LeastRequest(),
            outlier=Outlier(
                # In a row, over all methods; timeouts count, so a hung server is found by three.
                consecutive_errors=3,
                # s: a restart takes about as long; grows with each ejection, to five minutes.
                base_ejection_time=5.0,
                # Percent: half of the servers can be wrong at once, more is panic.
                max_ejection_percent=50,
                # s: how often ejected servers are let back, and failures are counted anew.
                interval=1.0,
                # Needs hundreds of calls a second to say anything; few targets have them.
                success_rate=None,
                failure_percentage=FailurePercentage(
                    # Percent, among three servers and up: most answers wrong is no bad luck.
                    threshold=85,
                    minimum_hosts=3,
                    request_volume=20,
                ),
            ),
        )


def _is_a(kind: type, field: str, value: object) -> None:
    if value is not None and not isinstance(value, kind):
        raise PolicyError(field, value, f"is not of kind {kind.__name__}")
