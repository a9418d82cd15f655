"""
The relay: hands an outbox to a bus, in order, by one instance at a time.

    lease ours? --no--> look again when it ends
      |yes
    events after `position` --> bus.publish --> position moves on, the lease with it
                                    |EventRefused
                                    v
                                parked with its cause; later ones of its aggregate behind it

Lease and position are one row in the outbox's own database.  Whoever takes the lease raises its
token, and a move under an older one changes nothing: a relay that slept through its lease can
publish again what was published already, and no more.  So each event goes out at least once.  A
batch that fails is tried again by halves, so that a slow broker, or one event that it does not
take, lets what stands before it pass.  One that it says it will never take is put aside
(mesh.events.parked) for an operator, and the others go on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import NoReturn
from uuid import uuid4

from mesh.events.bus import Bus, BusError, EventRefused, Unheard
from mesh.events.event import Event
from mesh.events.held import Held
from mesh.events.outbox import Outbox
from mesh.events.parked import Parked
from mesh.policy.backoff import Backoff
from mesh.store.database import StoreError, Transaction
from mesh.store.migrate import migrations

logger = logging.getLogger("mesh.events")

COMPONENT = "relay"

# How long the outbox stays a silent relay's, in seconds: another goes on after this.
LEASE_SECONDS = 3.0
# A batch that isn't the bus's after this long is given up and begun again, in seconds.
PUBLISH_SECONDS = 15.0
BATCH = 100
BACKOFF = Backoff(base=0.05, cap=2.0)


@dataclass(frozen=True, slots=True)
class Place:
    """Our lease, and how far the bus has been told."""

    token: int
    position: int


class Relay:
    """One of any number of relays from this outbox to this bus; `run` it in a task."""

    def __init__(
        self,
        outbox: Outbox,
        bus: Bus,
        *,
        source: str,
        name: str = "bus",
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self._outbox = outbox
        self._database = outbox.database
        self._bus = bus
        self._source = source
        self._name = name
        self._owner = uuid4().hex
        self._clock = clock
        self._rng = rng or Random()
        self._place: Place | None = None
        self._parked = Parked(outbox.database, name, source)
        # Whether anything is: nobody but a relay parks, so who holds the lease knows.
        self._parks = False
        self._batch = BATCH
        self._renew_at = 0.0
        self._database.declare(COMPONENT, migrations("mesh.events", COMPONENT))

    async def run(self) -> NoReturn:
        """Relay for ever; cancelled, it gives its lease back."""
        changes, failures, said = self._database.changes(), 0, ""
        try:
            while True:
                try:
                    await self._relay(changes)
                    if said:
                        logger.info("events of %s go out again", self._source)
                    failures, said = 0, ""
                except (BusError, StoreError, TimeoutError) as error:
                    failures, self._renew_at = failures + 1, 0.0
                    self._batch = max(1, self._batch // 2)
                    why = str(error) or f"not the bus's within {PUBLISH_SECONDS} s"
                    if why != said:  # once, not every time
                        level = logging.INFO if isinstance(error, Unheard) else logging.WARNING
                        logger.log(level, "events of %s are held up: %s", self._source, why)
                        said = why
                    await asyncio.sleep(BACKOFF.delay(failures, self._rng))
        finally:
            with suppress(StoreError):
                await self._database.transaction(self._give_back)
        raise AssertionError("a relay runs until its task is cancelled")

    async def _relay(self, changes: AsyncIterator[None]) -> None:
        """One look: hand over what there is, or wait for something to hand over."""
        if self._clock() >= self._renew_at:
            self._place = await self._database.transaction(self._take)
        while place := self._place:
            if self._parks and not await self._again(place):
                break
            events = await self._after(place.position)
            if not events:
                await self._until(anext(changes))
                return
            free = await self._free(events)
            try:
                if free and not await self._publish(place, free):
                    break
            except EventRefused as refused:
                if refused.event not in events:
                    raise
                if before := events.index(refused.event):
                    self._batch = before  # what stands before it goes out, then it is the first
                    continue
                self._place = await self._park(place, refused)
                continue
            behind = [each for each in events if each not in free] if free != events else []
            self._place = await self._move(place, events[-1].position, behind)
            self._batch = min(BATCH, self._batch * 2)
        # Somebody else relays: what happens here meanwhile is no business of ours.
        await asyncio.sleep(LEASE_SECONDS / 3)

    async def _after(self, position: int) -> list[Event]:
        return await self._database.read(lambda tx: self._outbox.after(tx, position, self._batch))

    async def _free(self, events: list[Event]) -> list[Event]:
        """The events that wait for no parked one."""
        if not self._parks:
            return events
        return await self._database.read(lambda tx: self._parked.free(tx, events))

    async def _again(self, place: Place) -> bool:
        """Try what an operator wants tried; False when the lease was lost."""
        while due := await self._database.read(lambda tx: self._parked.due(tx, self._clock())):
            for each in due:
                cause = ""
                try:
                    if not await self._publish(place, [each.event]):
                        return False
                except EventRefused as refused:
                    cause = refused.cause

                async def settle(tx: Transaction, tried: Held = each, why: str = cause) -> None:
                    now = self._clock()
                    if why:
                        await self._parked.refused(tx, tried, why, now)
                    else:
                        await self._parked.sent(tx, tried.event, now)

                if await self._moving(place, place.position, settle) is None:
                    return False
        return True

    async def _park(self, place: Place, refused: EventRefused) -> Place | None:
        """Put the event aside, and go on behind it; None when the lease was lost meanwhile."""
        event = refused.event
        logger.error(
            "%s: it is parked, and what %s %r does after it: see mesh.operator",
            refused,
            event.aggregate,
            event.aggregate_id,
        )
        self._parks = True
        return await self._moving(
            place,
            event.position,
            lambda tx: self._parked.park(tx, event, refused.cause, self._clock()),
        )

    async def _publish(self, place: Place, events: list[Event]) -> bool:
        """Hand events over, and keep the lease meanwhile; False when it was lost."""
        publishing = asyncio.ensure_future(self._bus.publish(self._source, events))
        try:
            async with asyncio.timeout(PUBLISH_SECONDS):
                while not (await asyncio.wait({publishing}, timeout=LEASE_SECONDS / 3))[0]:
                    kept = await self._database.transaction(self._take)
                    if kept is None or kept.token != place.token:
                        return False
            await publishing
        finally:
            publishing.cancel()
            await asyncio.wait({publishing})
        return True

    async def _until(self, news: Awaitable[None]) -> None:
        """Until there is news, or it is time to see to the lease."""
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, self._renew_at - self._clock())):
                await news

    async def _take(self, tx: Transaction) -> Place | None:
        """Take the lease or keep it; None while it is another's."""
        now = self._clock()
        await tx.execute(
            "insert into relay values ($1, '', 0, 0, 0) on conflict (name) do nothing", self._name
        )
        row = await tx.fetchrow(
            "update relay set token = token + case when owner = $2 then 0 else 1 end,"
            " owner = $2, free_at = $3 where name = $1 and (owner = $2 or free_at <= $4)"
            " returning token, position",
            self._name,
            self._owner,
            now + LEASE_SECONDS,
            now,
        )
        if row is None:
            return None
        self._renew_at = now + LEASE_SECONDS / 3
        self._parks = await self._parked.any(tx)
        await self._outbox.seen(tx, f"relay {self._name}", row["position"])
        return Place(row["token"], row["position"])

    async def _move(self, place: Place, position: int, behind: list[Event]) -> Place | None:
        """Up to here they are the bus's, or parked; None when the lease was lost meanwhile."""
        return await self._moving(
            place, position, lambda tx: self._parked.behind(tx, behind, self._clock())
        )

    async def _moving(
        self, place: Place, position: int, also: Callable[[Transaction], Awaitable[None]]
    ) -> Place | None:
        """Move on and do `also`, if the lease is ours still; None when it was lost meanwhile."""
        now = self._clock()

        async def work(tx: Transaction) -> Place | None:
            moved = await tx.execute(
                "update relay set position = $4, free_at = $5"
                " where name = $1 and owner = $2 and token = $3",
                self._name,
                self._owner,
                place.token,
                position,
                now + LEASE_SECONDS,
            )
            if not moved:
                return None
            await also(tx)
            await self._outbox.seen(tx, f"relay {self._name}", position)
            return Place(place.token, position)

        moved = await self._database.transaction(work)
        self._renew_at = now + LEASE_SECONDS / 3 if moved else now
        return moved

    async def _give_back(self, tx: Transaction) -> None:
        await tx.execute(
            "update relay set owner = '', free_at = 0 where name = $1 and owner = $2",
            self._name,
            self._owner,
        )
