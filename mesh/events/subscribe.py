"""Subscribe: what `follow` is to the feed, to a bus: every event once, its effect with its name."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from random import Random
from typing import NoReturn

from mesh.events.bus import Bus, BusError
from mesh.events.event import Event
from mesh.events.inbox import ATTEMPTS, Handler, Inbox
from mesh.policy.backoff import Backoff
from mesh.store.database import Database, StoreError

logger = logging.getLogger("mesh.events")

# Between two tries to consume, in seconds.
RECONNECT = Backoff(base=0.1, cap=5.0)


async def subscribe(
    bus: Bus,
    database: Database,
    *,
    consumer: str,
    source: str,
    handler: Handler,
    topics: Sequence[str] = (),
    attempts: int = ATTEMPTS,
    clock: Callable[[], float] = time.time,
    rng: Random | None = None,
) -> NoReturn:
    """
    Have `handler` see every event that `source` puts on `bus`, for ever, each once.

    Instances that share a `consumer` share its database and its work.  `handler(tx, event)` runs in
    the transaction that remembers the event; see inbox.py for what becomes of one that raises.
    """
    rng = rng or Random()
    inbox = Inbox(
        database,
        consumer=consumer,
        source=source,
        handler=handler,
        attempts=attempts,
        clock=clock,
        rng=rng,
    )
    news = asyncio.Event()

    async def take(events: Sequence[Event]) -> None:
        wanted = [event for event in events if not topics or event.aggregate in topics]
        # Positions come in no order here: where the feed would go on is none of a bus's business.
        if wanted and await inbox.deliver(wanted, cursor=False):
            news.set()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(inbox.tend(news))
        failures = 0
        while True:
            begun = asyncio.get_running_loop().time()
            try:
                await bus.consume(source, consumer, topics, take)
            except (BusError, StoreError) as error:
                lived = asyncio.get_running_loop().time() - begun > RECONNECT.cap
                failures = 1 if lived else failures + 1
                logger.warning("%s can't take in the events of %s: %s", consumer, source, error)
            await asyncio.sleep(RECONNECT.delay(max(1, failures), rng))
    raise AssertionError("a bus is consumed until the task is cancelled")
