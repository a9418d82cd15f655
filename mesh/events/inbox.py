"""
The inbox: an event may come any number of times and has its effect once.

    deliver(events):  one transaction { per event: seen before? -> nothing
                                                   its aggregate is held? -> held behind it
                                                   savepoint { handler } -> done, or held
                                        cursor moves behind the last }

That an event was seen, its effect and the cursor are committed together.  An event whose handler
raises is held, and with it all later ones of its aggregate; the others go on.  It is tried again
under backoff, and after `attempts` failures it is dead: kept with its cause until an operator has
it tried again or drops it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from random import Random
from typing import Any

from mesh.events import held
from mesh.events.event import Event
from mesh.events.held import Held
from mesh.policy.backoff import Backoff
from mesh.store.database import Database, StatementFailed, StoreError, Transaction
from mesh.store.migrate import migrations

logger = logging.getLogger("mesh.events")

COMPONENT = "inbox"

# How long an event's name is remembered, in seconds: twice as long as any outbox keeps the event.
RETENTION_SECONDS = 14 * 24 * 3600.0
PURGE_SECONDS = 60.0
PURGE_ROWS = 1000

# Between two tries of a held event; and how many tries it has.
BACKOFF = Backoff(base=0.1, cap=30.0)
ATTEMPTS = 12
# Held events are looked for at least this often, in seconds.
LOOK_SECONDS = 1.0

# The event is an Event; a handler may say so, or name any class with the attributes that it uses.
Handler = Callable[[Transaction, Any], Awaitable[None]]


class Inbox:
    """What one consumer has taken in of one source's events."""

    def __init__(
        self,
        database: Database,
        *,
        consumer: str,
        source: str,
        handler: Handler,
        attempts: int = ATTEMPTS,
        backoff: Backoff = BACKOFF,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self._database = database
        self._key = (consumer, source)
        self._handler = handler
        self._attempts = attempts
        self._backoff = backoff
        self._clock = clock
        self._rng = rng or Random()
        self._purge_at = 0.0
        database.declare(COMPONENT, migrations("mesh.events", COMPONENT))

    async def position(self) -> int:
        """Everything up to here was dealt with, or is held here."""
        return await self._database.read(self._position)

    async def deliver(self, events: Sequence[Event], *, cursor: bool = True) -> bool:
        """
        Take in events in their order; answers whether any of them is held now.

        They move the cursor, unless they come in another order than that of their positions.
        """

        async def work(tx: Transaction) -> bool:
            self._purge(tx)
            reached, kept = await self._position(tx) if cursor else 0, False
            for event in events:
                blocked = await self._first_seen(tx, event)
                if blocked is not None:
                    kept = not await self._take_in(tx, event, blocked) or kept
                reached = max(reached, event.position)
            if cursor:
                self._move(tx, reached)
            return kept

        return await self._database.transaction(work)

    async def retry(self) -> float | None:
        """Try the held events that are due; answers when the next one is, in s since 1970."""
        due = await self._database.read(self._next_due)
        if due is None or due > self._clock():
            return due  # mostly, and to look takes no commit
        await self._database.transaction(self._retry_due)
        return await self._database.read(self._next_due)

    async def tend(self, news: asyncio.Event) -> None:
        """Try held events again when they are due, for ever; `news` says that there are more."""
        while True:
            news.clear()
            pause = LOOK_SECONDS
            try:
                due = await self.retry()
                if due is not None:
                    pause = min(pause, max(0.0, due - self._clock()))
            except StoreError as error:
                logger.warning("held events can't be tried: %s", error)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await news.wait()

    async def rewind(self) -> None:
        """Ask the source for everything again; what was seen is known by its name."""

        async def work(tx: Transaction) -> None:
            self._move(tx, 0)

        await self._database.transaction(work)

    async def dead(self, tx: Transaction, limit: int = 100) -> list[Held]:
        """The events that an operator has to look at, with what was wrong with them."""
        return await held.dead(tx, *self._key, limit)

    async def redrive(self, tx: Transaction, position: int) -> bool:
        """Have a dead event tried again, and those behind it; False when it is not dead."""
        return await held.redrive(tx, *self._key, position, self._clock())

    async def drop(self, tx: Transaction, position: int) -> bool:
        """Give a dead event up: those behind it go on without it; False when it is not dead."""
        return await held.drop(tx, *self._key, position, self._clock())

    async def _first_seen(self, tx: Transaction, event: Event) -> bool | None:
        """None for an event that was seen before; else whether an earlier one is in its way."""
        row = await tx.fetchrow(
            "insert into inbox values ($1, $2, $3) on conflict (consumer, event_id) do nothing"
            " returning exists(select 1 from inbox_held where consumer = $1 and source = $4"
            " and aggregate = $5 and aggregate_id = $6) as blocked",
            self._key[0],
            event.event_id,
            self._clock(),
            self._key[1],
            event.aggregate,
            event.aggregate_id,
        )
        return bool(row["blocked"]) if row else None

    async def _take_in(self, tx: Transaction, event: Event, blocked: bool) -> bool:
        """Handle the event, or hold it: False."""
        if blocked:
            held.behind(tx, *self._key, event)
            return False
        cause = await self._handle(tx, event)
        if cause is None:
            return True
        due, now = self._due(1), self._clock()
        held.first(tx, *self._key, event, cause, due if self._attempts > 1 else None, now)
        return False

    async def _next_due(self, tx: Transaction) -> float | None:
        return await held.next_due(tx, *self._key)

    async def _retry_due(self, tx: Transaction) -> None:
        now = self._clock()
        for each in await held.due(tx, *self._key, now):
            cause = await self._handle(tx, each.event)
            if cause is None:
                held.done(tx, *self._key, each.event, now)
            else:
                attempts = each.attempts + 1
                due = self._due(attempts) if attempts < self._attempts else None
                held.failed(tx, *self._key, each.event, attempts, cause, due, now)

    async def _handle(self, tx: Transaction, event: Event) -> str | None:
        """Why the handler failed, its changes undone; None when it did not."""
        try:
            async with tx.savepoint():
                await self._handler(tx, event)
        except Exception as error:
            if isinstance(error, StoreError) and not isinstance(error, StatementFailed):
                raise  # the database's trouble, not the event's
            return f"{type(error).__name__}: {error}"
        return None

    def _due(self, attempts: int) -> float:
        return self._clock() + self._backoff.delay(attempts, self._rng)

    async def _position(self, tx: Transaction) -> int:
        row = await tx.fetchrow(
            "select position from inbox_cursor where consumer = $1 and source = $2", *self._key
        )
        return int(row["position"]) if row else 0

    def _move(self, tx: Transaction, position: int) -> None:
        tx.post(
            "insert into inbox_cursor values ($1, $2, $3) on conflict (consumer, source)"
            " do update set position = excluded.position",
            *self._key,
            position,
        )

    def _purge(self, tx: Transaction) -> None:
        now = self._clock()
        if now >= self._purge_at:
            self._purge_at = now + PURGE_SECONDS
            tx.post(
                "delete from inbox where (consumer, event_id) in"
                " (select consumer, event_id from inbox where seen_at < $1 limit $2)",
                now - RETENTION_SECONDS,
                PURGE_ROWS,
            )
