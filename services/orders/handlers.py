"""
What customers can do to orders.  Each change is one transaction: row, version, event, saga.

Handlers start the saga and can turn it back; what happens in between is place_order's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Protocol

from mesh.events.outbox import Outbox
from mesh.store import Database, Transaction
from services.orders import store
from services.orders.domain import Fact, Order, OrderConfirmed, Reason, Status
from services.orders.events import message
from services.orders.watching import Watching

SAGA = "place-order"

# Stores an answer in the transaction that made it true.
Keep = Callable[[Transaction, Order], Awaitable[None]]


class Runner(Protocol):
    """What handlers need of the saga runner."""

    async def start(self, tx: Any, saga: str, id: str, data: Any) -> Any: ...  # noqa: A002

    async def cancel(self, tx: Any, id: str, reason: str) -> Any: ...  # noqa: A002


class Orders:
    """
    Takes, finds, changes and watches orders in one database.

    With a `customer`, there are no orders but this customer's.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        runner: Runner,
        watching: Watching,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._runner = runner
        self._watching = watching
        self._now = now

    async def create(self, wanted: Order, keep: Keep, traceparent: str = "") -> Order:
        """Take an order; `keep` stores the answer with it, so that a crash leaves both or none."""
        order = wanted.taken(self._now())

        async def work(tx: Transaction) -> Order:
            store.insert(tx, order)
            await self._outbox.append(tx, message(Fact.CREATED, order, traceparent))
            data = {"traceparent": traceparent, "customer_id": order.customer_id}
            await self._runner.start(tx, SAGA, order.order_id, data)
            await keep(tx, order)
            return order

        return await self._database.transaction(work)

    async def get(self, order_id: str, customer: str | None = None) -> Order:
        return (await self._load(order_id, customer)).order

    async def page(
        self, customer_id: str, status: Status | None, after: tuple[int, str] | None, limit: int
    ) -> list[Order]:
        """Orders, newest first."""
        return await self._database.read(
            lambda tx: store.page(
                tx, customer_id=customer_id, status=status, after=after, limit=limit
            )
        )

    async def revise(
        self, order_id: str, changes: Mapping[str, str], customer: str | None = None
    ) -> Order:
        """Change the fields that are the customer's."""

        async def work(tx: Transaction) -> Order:
            before = await store.load(tx, order_id, customer)
            order = before.order.revised(changes, self._now())
            if order != before.order:
                store.save(tx, order, before)
            return order

        return await self._database.transaction(work)

    async def cancel(self, order_id: str, seconds: float, customer: str | None = None) -> Order:
        """Turn the saga back and wait at most *seconds* for its end; OrderConfirmed if too late."""

        async def work(tx: Transaction) -> Order:
            order = (await store.load(tx, order_id, customer)).order
            if not order.status.is_final:
                await self._runner.cancel(tx, order_id, Reason.CANCELLED_BY_CUSTOMER.value)
            return order

        order = await self._database.transaction(work)
        if not order.status.is_final:
            order = await self.finished(order_id, seconds)
        if order.status is Status.CONFIRMED:
            raise OrderConfirmed(f"order {order_id} is confirmed")
        return order

    async def finished(self, order_id: str, seconds: float) -> Order:
        """The order at its end, or as it is after *seconds*."""
        with self._watching.of(order_id, only_end=True) as watched:
            try:
                async with asyncio.timeout(seconds):
                    while True:
                        found = await self._load(order_id)
                        if found.order.status.is_final:
                            return found.order
                        watched.version = found.version
                        await watched.changed()
            except TimeoutError:
                return (await self._load(order_id)).order

    async def watch(
        self, order_id: str, customer: str | None = None
    ) -> AsyncGenerator[Order, None]:
        """The order as it is and then once per change, until it has come to its end."""
        with self._watching.of(order_id) as watched:
            versions = [await self._load(order_id, customer)]
            while True:
                for each in versions:
                    yield each.order
                    watched.version = each.version
                    if each.order.status.is_final:
                        return
                await watched.changed()
                versions = await self._database.read(
                    partial(store.versions_after, order_id=order_id, version=watched.version)
                )

    async def _load(self, order_id: str, customer: str | None = None) -> store.Version:
        return await self._database.read(lambda tx: store.load(tx, order_id, customer))
