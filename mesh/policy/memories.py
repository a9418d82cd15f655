"""
The memories of a target's rules: one for each rule and scope, kept while policies come and go.

    scope ""                          the target: shared by all methods without rules of their own
          "shop.orders.v1.OrderService"      a service's, "…/GetOrder" a method's own

A rule that changes takes a fresh memory, except a bulkhead's, whose limit changes in place while
calls are in flight.
"""

from __future__ import annotations

from typing import Any

from mesh.policy.adaptive import AdaptiveLimit, Concurrency
from mesh.policy.budget import Throttle
from mesh.policy.bulkhead import Bulkhead, Compartment
from mesh.policy.fallback import Fallback, Larder
from mesh.policy.fault import Active
from mesh.policy.limit import Meter, RateLimit
from mesh.policy.throttle import Acceptance, ClientThrottle


class Memories:
    """What the rules of one target remember, but for its endpoints."""

    def __init__(self) -> None:
        # The budget that all retries and hedges share, and the faults in force: one for all.
        self.throttle = Throttle()
        self.faults = Active()
        self.compartments: dict[str, Compartment] = {}
        self._kept: dict[tuple[type, str], Any] = {}

    def compartment(self, scope: str, rule: Bulkhead) -> Compartment:
        """The bulkhead of a scope; given another rule it changes its limit in place."""
        compartment = self.compartments.get(scope)
        if compartment is None:
            compartment = self.compartments[scope] = Compartment(rule)
        elif compartment.rule != rule:
            compartment.resize(rule)
        return compartment

    def meter(self, scope: str, rule: RateLimit) -> Meter:
        """The rate limit of a scope."""
        found: Meter = self._keep(Meter, scope, rule)
        return found

    def acceptance(self, scope: str, rule: ClientThrottle) -> Acceptance:
        """What the server of a scope has been accepting."""
        found: Acceptance = self._keep(Acceptance, scope, rule)
        return found

    def concurrency(self, scope: str, rule: AdaptiveLimit) -> Concurrency:
        """The adaptive limit of a scope."""
        found: Concurrency = self._keep(Concurrency, scope, rule)
        return found

    def larder(self, scope: str, rule: Fallback) -> Larder:
        """The good answers of a scope."""
        found: Larder = self._keep(Larder, scope, rule)
        return found

    def _keep(self, kind: type, scope: str, rule: Any) -> Any:
        memory = self._kept.get((kind, scope))
        if memory is None or memory.rule != rule:
            memory = self._kept[kind, scope] = kind(rule)
        return memory
