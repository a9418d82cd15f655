"""
A bus carries events from one outbox to any number of groups of consumers.

    outbox -> relay -> Bus.publish ==broker==> Bus.consume -> inbox -> handler

The feed needs no bus and no broker; each adapter here needs one, and an extra.  What all of them
promise, and one test class holds: nothing that was published is lost, each group has each event at
least once, and the events of one aggregate in their order; members of a group share the work.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, Protocol, Self

from mesh.errors import Code, MeshError
from mesh.events.event import Event

# Takes events in; what it raises has them delivered again.
Take = Callable[[Sequence[Event]], Awaitable[None]]


class Bus(Protocol):
    """A connection to a broker, made when it is entered and again whenever it is lost."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *reason: object) -> None: ...

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        """Hand events over; they are the broker's when this returns.  BusError: perhaps not all."""

    async def consume(self, source: str, group: str, take: Take) -> NoReturn:
        """Have `take` see every event of `source` that is this member's of `group`, for ever."""


class BusError(MeshError):
    """The broker is away, or said no; `bus` names it."""

    code = Code.UNAVAILABLE
    reason = "BUS_FAILED"

    def __init__(self, bus: str, cause: str) -> None:
        super().__init__(f"{bus}: {cause}")
        self.bus = bus
        self.cause = cause
