"""What the inventory does, one transaction each: stock, reservation and event go together."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from mesh.events.outbox import Outbox
from mesh.store import Database, Transaction
from services.inventory import store
from services.inventory.domain import (
    Change,
    Product,
    ProductNotFound,
    Reservation,
    ReservationNotFound,
    bounded,
    commit,
    release,
    reserve,
    totals,
)
from services.inventory.events import message

# An import is one transaction; this many products are some 100 ms of the database's only writer.
MOST_IMPORTED = 10_000

# Old holds given back in one transaction.
EXPIRED_AT_ONCE = 100

# Stores an answer in the transaction that made it true.
Keep = Callable[[Transaction, Reservation], Awaitable[None]]


class Inventory:
    """Keeps products and reservations in one database."""

    def __init__(
        self, database: Database, outbox: Outbox, now: Callable[[], int] = time.time_ns
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._now = now

    async def reserve(self, wanted: Reservation, keep: Keep, traceparent: str = "") -> Reservation:
        """
        Hold stock, once however often it is asked.

        `keep` stores the answer with the reservation, so that a crash leaves both or none.
        """
        asked = replace(wanted, created=self._now())

        async def work(tx: Transaction) -> Reservation:
            known = await store.load_reservation(tx, asked.reservation_id)
            stock = await store.available(tx, totals(asked.items))
            held = await self._write(tx, reserve(asked, known, stock), traceparent)
            await keep(tx, held)
            return held

        return await self._database.transaction(work)

    async def commit(self, reservation_id: str, traceparent: str = "") -> Reservation:
        """Turn held stock into sold stock."""

        async def work(tx: Transaction) -> Reservation:
            known = await store.load_reservation(tx, reservation_id)
            return await self._write(tx, commit(known, reservation_id), traceparent)

        return await self._database.transaction(work)

    async def release(self, reservation_id: str, keep: Keep, traceparent: str = "") -> Reservation:
        """Give stock back, or see to it that it will never be held."""
        now = self._now()

        async def work(tx: Transaction) -> Reservation:
            known = await store.load_reservation(tx, reservation_id)
            released = await self._write(tx, release(known, reservation_id, now), traceparent)
            await keep(tx, released)
            return released

        return await self._database.transaction(work)

    async def release_older(self, seconds: float) -> int:
        """Give back some of what has been held for longer than this; how many reservations."""
        now = self._now()
        before = now - round(seconds * 1e9)

        async def work(tx: Transaction) -> int:
            old = await store.held_before(tx, before, EXPIRED_AT_ONCE)
            for known in old:
                await self._write(tx, release(known, known.reservation_id, now), "")
            return len(old)

        # Mostly there are none, and to look takes no commit.
        if not await self._database.read(lambda tx: store.held_before(tx, before, 1)):
            return 0
        return await self._database.transaction(work)

    async def take(self, products: Sequence[Product]) -> int:
        """Put products into the catalogue, all or none; how many they were."""
        taken = bounded(products, MOST_IMPORTED)

        async def work(tx: Transaction) -> None:
            await store.take(tx, taken)

        await self._database.transaction(work)
        return len(taken)

    async def stock_once(self, products: Sequence[Product]) -> None:
        """Put *products* into a catalogue that is empty; in any other do nothing."""

        async def work(tx: Transaction) -> None:
            if not await store.has_products(tx):
                await store.take(tx, products)

        await self._database.transaction(work)

    async def products(self, after: str, limit: int) -> list[Product]:
        return await self._database.read(lambda tx: store.list_products(tx, after, limit))

    async def product(self, product_id: str) -> Product:
        product = await self._database.read(lambda tx: store.load_product(tx, product_id))
        if product is None:
            raise ProductNotFound(f"there is no product {product_id!r}")
        return product

    async def reservation(self, reservation_id: str) -> Reservation:
        found = await self._database.read(lambda tx: store.load_reservation(tx, reservation_id))
        if found is None:
            raise ReservationNotFound("there is no such reservation")
        return found

    async def of_order(self, order_id: str) -> Reservation:
        """The newest reservation of an order."""
        found = await self._database.read(lambda tx: store.load_reservation_of_order(tx, order_id))
        if found is None:
            raise ReservationNotFound("there is no such reservation")
        return found

    async def _write(self, tx: Transaction, change: Change, traceparent: str) -> Reservation:
        store.move(tx, change.moves)
        if change.changed:
            store.save_reservation(tx, change.reservation)
        if change.fact is not None:
            await self._outbox.append(tx, message(change.fact, change.reservation, traceparent))
        return change.reservation
