"""What the notification service does: list notifications, and send them as they are written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from mesh.store import Database, Transaction
from services.notifications import store
from services.notifications.domain import Notification, TooManyCustomers, UnknownNotification

# Customers on one subscription, and notifications read for it at once.
MOST_CUSTOMERS = 100
BATCH = 200


@dataclass(frozen=True, slots=True)
class Wanted:
    """A customer to hear of, after the notification `after`; only of new ones when it is empty."""

    customer_id: str
    after: str = ""


class Notifications:
    """Keeps and sends the notifications in one database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, customer_id: str, before: int | None, limit: int) -> list[Notification]:
        """Notifications, newest first."""
        return await self._database.read(
            lambda tx: store.page(tx, customer_id=customer_id, before=before, limit=limit)
        )

    async def subscribe(
        self, wanted: AsyncIterator[Wanted], heard: Callable[[], Awaitable[None]]
    ) -> AsyncGenerator[Notification, None]:
        """
        Send the notifications of each customer that is wanted, as they are written.

        `heard` is awaited once, when the first of them is followed.  It goes on when no more
        customers are named, and ends only if none ever was.
        """
        seen: dict[str, int] = {}  # by customer: the position up to which all was sent
        wake = asyncio.Event()

        async def listen() -> None:
            async for each in wanted:
                if len(seen) >= MOST_CUSTOMERS and each.customer_id not in seen:
                    raise TooManyCustomers(f"a subscription follows {MOST_CUSTOMERS} customers")
                seen[each.customer_id] = await self._start(each)
                if len(seen) == 1:
                    await heard()
                wake.set()

        async def follow() -> None:
            async for _ in self._database.changes():
                wake.set()

        tasks = [asyncio.create_task(listen()), asyncio.create_task(follow())]
        for task in tasks:
            task.add_done_callback(lambda _: wake.set())
        try:
            while True:
                await wake.wait()
                wake.clear()
                for task in tasks:
                    if task.done():
                        task.result()
                if tasks[0].done() and not seen:
                    return
                async for notification in self._unseen(seen):
                    yield notification
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _start(self, wanted: Wanted) -> int:
        async def work(tx: Transaction) -> int:
            if not wanted.after:
                return await store.last_position(tx)
            position = await store.position_of(tx, wanted.after)
            if position is None:
                raise UnknownNotification(f"there is no notification {wanted.after!r}")
            return position

        return await self._database.read(work)

    async def _unseen(self, seen: dict[str, int]) -> AsyncIterator[Notification]:
        """What was written since `seen`, which moves on with it."""
        while seen:
            customers, position = list(seen), min(seen.values())
            batch = await self._database.read(
                partial(store.after, customer_ids=customers, position=position, limit=BATCH)
            )
            for notification in batch:
                if notification.position > seen[notification.customer_id]:
                    yield notification
            for customer in customers:
                if batch:
                    seen[customer] = max(seen[customer], batch[-1].position)
            if len(batch) < BATCH:
                return
