"""
Parked: what a broker refuses for good waits in the sender's own database, its aggregate with it.

    refused              parked with its cause, dead: an operator has it tried again, or drops it
    later, same one      behind it, in order         (mesh.events.dead, mesh.events.held)
    any other            goes out as ever

Parked events are held under the consumer `relay:<name>`, so that they are the same dead letters to
an operator as those of an inbox.
"""

from __future__ import annotations

from collections.abc import Sequence

from mesh.events import held
from mesh.events.event import Event
from mesh.events.held import Held
from mesh.events.inbox import COMPONENT
from mesh.store.database import Database, Transaction
from mesh.store.migrate import migrations


class Parked:
    """What one relay could not hand over of its source's events."""

    def __init__(self, database: Database, name: str, source: str) -> None:
        self._key = (f"relay:{name}", source)
        database.declare(COMPONENT, migrations("mesh.events", COMPONENT))

    async def any(self, tx: Transaction) -> bool:
        """Whether anything is parked, or waits behind what is."""
        return None is not await tx.fetchrow(
            "select 1 from inbox_held where consumer = $1 and source = $2 limit 1", *self._key
        )

    async def free(self, tx: Transaction, events: Sequence[Event]) -> list[Event]:
        """Those of the events that have nothing parked before them."""
        return [each for each in events if not await self._blocks(tx, each)]

    async def park(self, tx: Transaction, event: Event, cause: str, now: float) -> None:
        """Put aside what was refused."""
        held.first(tx, *self._key, event, cause, None, now)

    async def behind(self, tx: Transaction, events: Sequence[Event], now: float) -> None:
        """Put aside what has something parked before it; if that is gone meanwhile, it is due."""
        for event in events:
            if await self._blocks(tx, event):
                held.behind(tx, *self._key, event)
            else:
                held.ready(tx, *self._key, event, now)

    async def due(self, tx: Transaction, now: float) -> list[Held]:
        """What an operator wants tried, and what follows it; at most one event of an aggregate."""
        return await held.due(tx, *self._key, now)

    async def sent(self, tx: Transaction, event: Event, now: float) -> None:
        """It is the broker's: the next of its aggregate is due."""
        held.done(tx, *self._key, event, now)

    async def refused(self, tx: Transaction, tried: Held, cause: str, now: float) -> None:
        """It was refused once more."""
        held.failed(tx, *self._key, tried.event, tried.attempts + 1, cause, None, now)

    async def _blocks(self, tx: Transaction, event: Event) -> bool:
        """Whether an earlier event of the same aggregate is held."""
        return None is not await tx.fetchrow(
            "select 1 from inbox_held where consumer = $1 and source = $2"
            " and aggregate = $3 and aggregate_id = $4 limit 1",
            *self._key,
            event.aggregate,
            event.aggregate_id,
        )
