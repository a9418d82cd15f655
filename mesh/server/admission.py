"""
How many calls may be in the handlers at once: the rest is refused before any work, and at once.

    all calls                    up to the fixed maximum, streams included
    calls that end by themselves up to what the server has learnt it can do: mesh/policy/adaptive.py
    less critical calls          up to a part of either: what can wait makes room for what can't

Refusing early is what keeps an overloaded server useful: a queue would only make every answer late.
RESOURCE_EXHAUSTED tells clients to send less (they throttle on it), not that the server is ill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType

from mesh.errors import Overloaded
from mesh.inbound import Inbound
from mesh.policy.adaptive import Concurrency, Slot
from mesh.policy.criticality import Criticality
from mesh.server.refusal import overloaded


class Admission:
    """Who is in, and whether one more may come: `with admission(method, inbound):`."""

    def __init__(
        self, maximum: int, learnt: Concurrency | None, clock: Callable[[], float]
    ) -> None:
        self.in_flight = 0
        self._maximum = maximum
        self._learnt = learnt
        self._clock = clock

    def __call__(self, method: str, inbound: Inbound, *, lasting: bool = False) -> Place:
        """A place for one call, or StatusError; a *lasting* stream is bounded by number alone."""
        level = Criticality.of(inbound.criticality)
        fits = max(1, int(self._maximum * min(1.0, level.value)))
        if self.in_flight >= fits:
            raise overloaded(
                f"{self.in_flight} calls are in progress and at most {fits} like this one fit"
            )
        if self._learnt is None or lasting:
            return Place(self, None, self._clock)
        try:
            slot = self._learnt.admit(self._clock(), level, method)
        except Overloaded as refused:
            raise overloaded(refused.message) from refused
        return Place(self, slot, self._clock)


class Place:
    """One call's place, from when it is given to the end of its `with`."""

    __slots__ = ("_admission", "_clock", "_slot")

    def __init__(self, admission: Admission, slot: Slot | None, clock: Callable[[], float]) -> None:
        self._admission = admission
        self._slot = slot
        self._clock = clock
        admission.in_flight += 1

    def __enter__(self) -> None:
        """It is taken already."""

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._admission.in_flight -= 1
        if self._slot is None:
            return
        with self._slot as answered:
            if kind is None:
                answered(self._clock())
            elif issubclass(kind, asyncio.CancelledError):
                answered.cut(self._clock())
