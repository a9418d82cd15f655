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
        self._queue: deque[Signal] = deque()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def enter(self) -> Signal | None:
        """
        Take a place, to be given back by `leave`; BulkheadFull when there is none.

        A signal is a place in the queue: it is set when it becomes one inside.
        """
        if self.in_flight < self.rule.limit:
            self.in_flight += 1
            return None
        if len(self._queue) >= self.rule.queue:
            raise BulkheadFull(f"{self.in_flight} calls are in flight, {self.waiting} wait")
        turn = Signal()
        self._queue.append(turn)
        return turn

    def leave(self, turn: Signal | None) -> None:
        """Give back what `enter` gave, whether a place inside or in the queue."""
        if turn is None or turn.is_set:
            self.in_flight -= 1
            if self._queue:
                self._admit()
        else:
            self._queue.remove(turn)

    def resize(self, rule: Bulkhead) -> None:
        """Put another rule in force: who waits may get in, who is in stays in."""
        self.rule = rule
        self._admit()

    def _admit(self) -> None:
        while self._queue and self.in_flight < self.rule.limit:
            # Taken before anybody is woken: a call cancelled just now still gives it back.
            self.in_flight += 1
            self._queue.popleft().set()


def bounding(compartment: Compartment) -> Layer:
    """Let a call in when there is room, refuse it before any work is done for it otherwise."""

    def layer(call: Call, inner: Inner) -> Steps:
        turn = compartment.enter()
        try:
            if turn is not None:
                yield Wait(turn, compartment.rule.wait)
                # Not the answer decides: the place may have come just after the time was up.
                if not turn.is_set:
                    raise BulkheadFull(f"no place within {compartment.rule.wait:g} s")
            return (yield from inner(call))
        finally:
            compartment.leave(turn)

    return layer
