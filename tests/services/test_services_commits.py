"""What orders cost in commits, one after another and many at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import pytest
from shop.inventory.v1 import Product
from shop.notifications.v1 import ListNotificationsRequest
from shop.orders.v1 import ORDER_STATUS_CONFIRMED

from mesh.store.turnstile import Turnstile
from tests.services.shopping import Open, Shop, asking, opened
from tests.store.postgresql import DATABASES, running

AT_ONCE = 64
COMMIT_SECONDS = 0.005


@pytest.fixture(params=DATABASES)
def sort(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class SlowDisk(Turnstile):
    """Each commit of SQLite takes longer."""

    @contextmanager
    def passing(self, patience: float) -> Iterator[None]:
        with super().passing(patience):
            yield
            time.sleep(COMMIT_SECONDS)


@pytest.fixture
def slow_shop(closed_shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Shop:
    """A shop whose commits take COMMIT_SECONDS longer, as on a disk of a cloud."""
    monkeypatch.setattr("mesh.store.sqlite.Turnstile", SlowDisk)
    if closed_shop.sort == "postgresql":
        for service in ("orders", "payments", "inventory", "notifications"):
            name = closed_shop.url(service).rpartition("/")[2]
            delay = f"alter database {name} set commit_delay = {COMMIT_SECONDS * 1e6:.0f}"
            running().sql("postgres", delay, f"alter database {name} set commit_siblings = 0")
    return closed_shop


@pytest.fixture
async def shop(slow_shop: Shop) -> AsyncIterator[Open]:
    async with opened(slow_shop) as shop:
        yield shop


async def commits(shop: Open, customer: str, orders: int, at_once: int) -> float:
    """Commits of all four services for each of so many orders, until all of it has happened."""
    before = shop.shop.commits
    left = iter(range(orders))

    async def place() -> None:
        for number in left:
            key = f"{customer}-{number}"
            request = asking(("jug", 1), key=key, customer=customer)
            order = await shop.orders.CreateOrder(request, timeout=60.0)
            assert order.status == ORDER_STATUS_CONFIRMED

    await asyncio.gather(*(place() for _ in range(at_once)))
    await told(shop, customer, 2 * orders)
    return (shop.shop.commits - before) / orders


async def told(shop: Open, customer: str, notifications: int) -> None:
    """Wait until the customer has so many notifications."""
    request = ListNotificationsRequest(customer_id=customer, page_size=1000)
    async with asyncio.timeout(20.0):
        while (
            len((await shop.notifications.ListNotifications(request)).notifications) < notifications
        ):
            await asyncio.sleep(0.05)


async def test_orders_at_once_share_their_commits(shop: Open) -> None:
    jug = Product(product_id="jug", title="A jug", available=10 * AT_ONCE)
    jug.price.currency_code, jug.price.units = "USD", 20
    await shop.inventory.ImportProducts(iter([jug]))
    await commits(shop, "first", 4, 1)

    alone = await commits(shop, "alone", 8, 1)
    together = await commits(shop, "together", 4 * AT_ONCE, AT_ONCE)
    # Five of orders, two each of payments, inventory and notifications; leases that are renewed, if
    # the machine is slow.
    assert 10.0 <= alone <= 13.0
    # Mostly a tenth; the busier the machine, the sooner the next order finds a commit to miss.
    assert together <= alone / 5
