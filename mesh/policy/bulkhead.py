"""
Bulkhead: only so many calls in flight to one target, so that a slow one cannot sink the ship.

    call --> [ in flight: limit ]                      room: straight through
      \\--> ( queue, at most `queue` for `wait` s ) --> its turn came, or BulkheadFull

First come, first served; exactly `limit` are in flight, whatever is cancelled when; the limit can
be changed while calls are in flight.  It sits outside the retry: a call takes one place however
often it is repeated.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from msgspec import Struct

from mesh.call import Call
from mesh.errors import BulkheadFull
from mesh.flow import Inner, Layer, Signal, Steps, Wait
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Bulkhead:
    """The rule: `limit` calls in flight, `queue` more waiting for at most `wait` seconds."""

    limit: int = 64
    queue: int = 0
    wait: float = 0.1

    def __post_init__(self) -> None:
        checks.whole("bulkhead", 1, limit=self.limit)
        checks.whole("bulkhead", 0, queue=self.queue)
        checks.not_negative("bulkhead", wait=self.wait)


class Compartment:
    """The memory: who is in, and who waits for a place."""

    __slots__ = ("_queue", "in_flight", "rule")

    def __init__(self, rule: Bulkhead) -> None:
        self.rule = rule
        self.in_flight = 0
        self._queue: deque[Place] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def enter(self) -> Place:
        """A place, taken already or in the queue; BulkheadFull when there is neither."""
        if self.in_flight < self.rule.limit:
            self.in_flight += 1
            return Place(self, taken=True)
        if len(self._queue) >= self.rule.queue:
            raise BulkheadFull(f"{self.in_flight} calls are in flight, {self.waiting} wait")
        place = Place(self, signal=Signal())
        self._queue.append(place)
        return place

    def resize(self, rule: Bulkhead) -> None:
        """Put another rule in force: who waits may get in, who is in stays in."""
        self.rule = rule
        self._admit()

    def leave(self, place: Place) -> None:
        """Give up `place`, whether it was taken or not; places call this."""
        if place.taken:
            place.taken = False
            self.in_flight -= 1
            if self._queue:
                self._admit()
        elif place in self._queue:
            self._queue.remove(place)

    def _admit(self) -> None:
        while self._queue and self.in_flight < self.rule.limit:
            place = self._queue.popleft()
            # Taken before anybody is woken: a call cancelled just now still gives it back.
            self.in_flight += 1
            place.taken = True
            if place.signal is not None:
                place.signal.set()


class Place(Struct, eq=False):
    """One call's place in a compartment, given back by `with`."""

    compartment: Compartment
    taken: bool = False
    # Set when a place in the queue becomes one inside.
    signal: Signal | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.compartment.leave(self)


def bounding(compartment: Compartment) -> Layer:
    """Let a call in when there is room, refuse it before any work is done for it otherwise."""

    def layer(call: Call, inner: Inner) -> Steps:
        with compartment.enter() as place:
            if place.signal is not None:
                yield Wait(place.signal, compartment.rule.wait)
                # Not the answer decides: the place may have come just after the time was up.
                if not place.taken:
                    raise BulkheadFull(f"no place within {compartment.rule.wait:g} s")
            return (yield from inner(call))

    return layer
