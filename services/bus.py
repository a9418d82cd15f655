"""
Events between services: by the feed, or over the broker that EVENTS_URL names.

    no EVENTS_URL    notifications follow the feed of orders; nobody needs a broker
    EVENTS_URL       each instance of orders, payments and inventory runs a relay from its outbox,
                     of which one at a time relays; notifications subscribe

The feed is served in either case: the auditor reads it.  A broker that is away holds up no service:
events wait in the outboxes, and instances look for it until it is there.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from mesh.events.bus import Bus
from mesh.events.connected import connected
from mesh.events.inbox import Handler
from mesh.events.outbox import Outbox
from mesh.events.relay import Relay
from mesh.events.subscribe import subscribe
from mesh.events.url import connect
from mesh.store import Database
from services.background import beside

# Makes a connection that is not yet entered; None stands for the feed.
MakeBus = Callable[[], Bus]


def from_url(url: str) -> MakeBus | None:
    """What EVENTS_URL means; raises BusError for what can't be a bus."""
    if not url:
        return None
    connect(url)  # now, not when it is first needed
    return lambda: connect(url)


def relaying(bus: MakeBus | None, outbox: Outbox, source: str) -> AbstractAsyncContextManager[None]:
    """Have what the outbox holds relayed to the bus while the block runs."""
    if bus is None:
        return nullcontext()
    return beside(connected(bus, lambda entered: Relay(outbox, entered, source=source).run()))


def subscribed(
    bus: MakeBus, database: Database, *, consumer: str, source: str, topic: str, handler: Handler
) -> AbstractAsyncContextManager[None]:
    """Have `handler` see every event of a topic of the source while the block runs, each once."""
    return beside(
        connected(
            bus,
            lambda entered: subscribe(
                entered,
                database,
                consumer=consumer,
                source=source,
                topics=[topic],
                handler=handler,
            ),
        )
    )
