"""A shop whose events go over a broker: the same story, and a kill -9 of the broker loses none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

import grpc
import pytest

from mesh.events.url import connect as connect_bus
from scripts.audit import settle
from services.audit.reading import Shop as Books
from services.bus import from_url
from tests.events.brokers import APACHE, Broker, started
from tests.services.conserved import check
from tests.services.shopping import STOCK, Open, Shop
from tests.services.test_services_conserved import shopper

# What each service tells of: Kafka has a topic for each.
TOPICS = {"orders": "order", "payments": "payment", "inventory": "reservation"}
IMPORTED = {product.product_id: product.available for product in STOCK}


@pytest.fixture(params=["nats", "rabbitmq", "kafka", APACHE])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    directory = tmp_path / "broker"
    directory.mkdir()
    async with started(request.param, directory) as broker:
        await broker.prepare(*TOPICS.values())
        yield broker


@dataclass
class Town:
    """An open shop of which orders and notifications have two instances each, and its books."""

    open: Open
    books: Books


@pytest.fixture
async def town(closed_shop: Shop, broker: Broker) -> AsyncIterator[Town]:
    closed_shop.bus = from_url(broker.url)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stock = await enter(closed_shop.inventory())
        till = await enter(closed_shop.payments())
        await enter(closed_shop.orders("orders-2"))
        book = await enter(closed_shop.orders())
        await enter(closed_shop.notifications())
        post = await enter(closed_shop.notifications())
        channels = [
            await enter(grpc.aio.insecure_channel(closed_shop.addresses[name]))
            for name in ("orders", "payments", "inventory", "notifications")
        ]
        yield Town(Open(closed_shop, book, stock, till, post), Books(*channels))


async def test_the_broker_is_killed_in_the_middle_and_every_event_is_told_once(
    town: Town, broker: Broker
) -> None:
    shop = town.open
    day = [asyncio.create_task(shopper(shop.orders, Random(seed))) for seed in range(24)]
    await asyncio.sleep(0.5)
    await broker.kill()
    day += [asyncio.create_task(shopper(shop.orders, Random(seed))) for seed in range(24, 30)]
    await asyncio.gather(*day)  # orders go through without a broker
    await broker.start()

    report = await settle(town.books, IMPORTED, 40)

    assert report.settled, (report.wrong, report.in_flight)
    await check(shop.shop, shop.orders, shop.inventory)
    told = await shop.shop.rows("orders", "select event_id from outbox")
    notes = await shop.shop.rows("notifications", "select notification_id from notifications")
    seen = await shop.shop.rows("notifications", "select event_id from inbox")
    assert len(notes) == len(set(notes)) == len(told) == len(seen)
    assert set(seen) == set(told)
    # It was the bus that told them: the feed keeps a cursor, and there is none.
    assert await shop.shop.rows("notifications", "select * from inbox_cursor") == []


async def test_payments_and_inventory_are_told_on_the_bus_too(town: Town, broker: Broker) -> None:
    await asyncio.gather(*(shopper(town.open.orders, Random(seed)) for seed in range(3)))
    heard: dict[str, set[str]] = {"payments": set(), "inventory": set()}

    async def take(source: str, events) -> None:
        heard[source] |= {event.event_type for event in events}

    async with connect_bus(broker.url) as bus, asyncio.timeout(30):
        taking = [
            asyncio.create_task(
                bus.consume(source, "test", [TOPICS[source]], partial(take, source))
            )
            for source in heard
        ]
        try:
            while not (heard["payments"] and "StockReserved" in heard["inventory"]):
                await asyncio.sleep(0.05)
        finally:
            for task in taking:
                task.cancel()
            await asyncio.gather(*taking, return_exceptions=True)
    assert heard["payments"] <= {"PaymentCompleted", "PaymentDeclined", "PaymentRefunded"}
