"""
How many calls may be in the handlers at once: the rest is refused before any work, and at once.

    critical_plus     up to the fixed maximum: it is refused last
    critical          up to what the server has learnt it can do (see adaptive.py); the default
    sheddable_plus    up to 80 % of that
    sheddable         up to 60 %: what can wait makes room for what can't

Refusing early is what keeps an overloaded server useful: a queue would only make every answer late.
RESOURCE_EXHAUSTED tells clients to send less (they throttle on it), not that the server is ill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from mesh.errors import Code, StatusError
from mesh.inbound import Inbound
from mesh.server.adaptive import Capacity
from mesh.server.status import DOMAIN

OVERLOADED = "SERVER_OVERLOADED"

CRITICAL_PLUS, CRITICAL = "critical_plus", "critical"
SHARES = {CRITICAL: 1.0, "sheddable_plus": 0.8, "sheddable": 0.6}


class Admission:
    """Who is in, and whether one more may come: `with admission(method, inbound):`."""

    def __init__(self, maximum: int, capacity: Capacity | None, clock: Callable[[], float]) -> None:
        self.in_flight = 0
        self._maximum = maximum
        self._capacity = capacity
        self._clock = clock

    def __call__(self, method: str, inbound: Inbound, *, lasting: bool = False) -> Place:
        """A place for one call, or StatusError; a *lasting* stream teaches nothing about speed."""
        limit = self._limit(inbound.criticality.lower())
        if self.in_flight >= limit:
            raise StatusError(
                Code.RESOURCE_EXHAUSTED,
                f"{self.in_flight} calls are in progress and at most {limit} like this one fit",
                reason=OVERLOADED,
                domain=DOMAIN,
            )
        return Place(self, "" if lasting else method)

    def _limit(self, criticality: str) -> int:
        if self._capacity is None or criticality == CRITICAL_PLUS:
            learnt = self._maximum
        else:
            learnt = int(self._capacity.limit)
        # Whatever is not known is as important as what says nothing.
        return max(1, int(learnt * SHARES.get(criticality, 1.0)))

    def enter(self) -> float:
        self.in_flight += 1
        return self._clock()

    def leave(self, method: str, began: float, *, telling: bool) -> None:
        if self._capacity is not None and method and telling:
            now = self._clock()
            self._capacity.record(method, now - began, self.in_flight, now)
        self.in_flight -= 1


class Place:
    """One call's place, from the `with` that takes it to the end of the block."""

    __slots__ = ("_admission", "_began", "_method")

    def __init__(self, admission: Admission, method: str) -> None:
        self._admission = admission
        self._method = method
        self._began = 0.0

    def __enter__(self) -> None:
        self._began = self._admission.enter()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # An error may be quick or slow for reasons of its own; a call cut off at its deadline has
        # taken at least that long.
        telling = kind is None or issubclass(kind, asyncio.CancelledError)
        self._admission.leave(self._method, self._began, telling=telling)
