"""
A bus carries events from one outbox to any number of groups of consumers.

    outbox -> relay -> Bus.publish ==broker==> Bus.consume -> inbox -> handler

The feed needs no bus and no broker; each adapter here needs one, and an extra.  What all of them
promise, and one test class holds: nothing that was published is lost, each group has each event at
least once, and the events of one aggregate in their order; members of a group share the work.

A broker that keeps a log (Kafka, JetStream) has a new group begin with the oldest event it keeps.
One that keeps queues (RabbitMQ, SQS) keeps for the groups that are declared; while there is none it
refuses (Unheard), so that events wait in the outbox for the first group, whoever starts first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, Protocol, Self

from mesh.errors import Code, MeshError
from mesh.events.event import Event

# Takes events in; what it raises has them delivered again.
Take = Callable[[Sequence[Event]], Awaitable[None]]

# A broker that keeps a log keeps an event for as long as an outbox does, in seconds; what waits in
# a group's queue is kept until it is taken, or as long as the broker can.
RETENTION_SECONDS = 7 * 24 * 3600.0
# Makers of a connection wait no longer, in seconds.
CONNECT_SECONDS = 3.0


class Bus(Protocol):
    """
    A connection to a broker, made when it is entered and again whenever it is lost.

    `topics` are the aggregates that a group wants; a broker that can't tell them apart brings all.
    """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *reason: object) -> None: ...

    async def declare(self, source: str, group: str, topics: Sequence[str]) -> None:
        """Have the group be: from here on every event is kept for it, whoever of it is there."""

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        """
        Hand events over; they are the broker's when this returns.  BusError: perhaps not all.

        EventRefused names the one that the broker will not have.
        """

    async def consume(self, source: str, group: str, topics: Sequence[str], take: Take) -> NoReturn:
        """Have `take` see every event of `source` that is this member's of `group`, for ever."""


class BusError(MeshError):
    """The broker is away, or said no; `bus` names it."""

    code = Code.UNAVAILABLE
    reason = "BUS_FAILED"

    def __init__(self, bus: str, cause: str) -> None:
        super().__init__(f"{bus}: {cause}")
        self.bus = bus
        self.cause = cause


class EventRefused(BusError):
    """
    The broker will not have this event, however often it is asked: it is too large for it.

    Said only of what is the event's own fault.  What may be the broker's (a queue that is full, a
    right that is missing) is a BusError like any: it is waited for, and nothing overtakes.
    """

    code = Code.FAILED_PRECONDITION
    reason = "BUS_EVENT_REFUSED"

    def __init__(self, bus: str, event: Event, cause: str) -> None:
        super().__init__(bus, f"event {event.event_id} is refused: {cause}")
        self.event, self.cause = event, cause


class Unheard(BusError):
    """No group is declared for this source yet, and the broker keeps events for groups only."""

    reason = "BUS_UNHEARD"

    def __init__(self, bus: str, source: str) -> None:
        super().__init__(
            bus, f"nobody subscribes to the events of {source}: they wait for who does"
        )
