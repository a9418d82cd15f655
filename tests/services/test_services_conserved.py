"""Nothing is lost and nothing made up: money and stock after a busy day, and after every crash."""

import asyncio
from random import Random

import pytest
from shop.notifications.v1 import ListNotificationsRequest
from shop.orders.v1 import ORDER_STATUS_RESERVED, CancelOrderRequest, OrderServiceStub

from tests.services.conserved import check, settled
from tests.services.shopping import Trap, asking, reached
from tests.store.postgresql import DATABASES

CARDS = ("card", "card", "card", "card-declined", "card-slow")


@pytest.fixture(params=DATABASES)
def sort(request: pytest.FixtureRequest) -> str:
    return request.param


async def shopper(orders: OrderServiceStub, random: Random) -> None:
    """One customer's order: anything may be wrong with it, and they may change their mind."""
    products = random.sample(("mug", "jug", "teapot", "none"), random.choice((1, 1, 1, 2)))
    items = [(product, random.randint(1, 4)) for product in products]
    order = await orders.CreateOrder(asking(*items, wait=False, card=random.choice(CARDS)))
    if random.random() < 0.3:
        await asyncio.sleep(random.random() / 10)
        await asyncio.gather(
            orders.CancelOrder(CancelOrderRequest(order_id=order.order_id)),
            return_exceptions=True,  # some are confirmed by then
        )


async def test_a_busy_day_on_two_instances_conserves_money_and_stock(shop):
    random = Random(11)
    async with shop.shop.orders("orders-2") as second:
        await asyncio.gather(
            *(shopper(random.choice((shop.orders, second)), Random(seed)) for seed in range(60))
        )
        await check(shop.shop, second, shop.inventory)


async def test_a_busy_day_is_told_in_one_notification_per_event(shop):
    await asyncio.gather(*(shopper(shop.orders, Random(seed)) for seed in range(20)))
    await settled(shop.orders)
    events = await shop.shop.rows("orders", "select count(*) from outbox")
    request = ListNotificationsRequest(page_size=1000)
    async with asyncio.timeout(10):
        while True:
            told = (await shop.notifications.ListNotifications(request)).notifications
            if len(told) >= events[0][0]:
                break
            await asyncio.sleep(0.02)

    assert len({each.notification_id for each in told}) == len(told) == events[0][0] == 40


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("method", "card"),
    [
        ("GetProduct", "card"),
        ("ReserveStock", "card"),
        ("ChargePayment", "card"),
        ("CommitStock", "card"),
        ("ReleaseStock", "card-declined"),
    ],
)
async def test_a_crash_at_any_call_of_the_saga_conserves_money_and_stock(
    closed_shop, method, card, after
):
    trap = Trap(method, after=after)
    async with closed_shop.inventory() as inventory, closed_shop.payments():
        async with closed_shop.orders("orders-1", trap) as orders, asyncio.timeout(20):
            await orders.CreateOrder(asking(("mug", 2), ("jug", 1), wait=False, card=card))
            await trap.caught.wait()
        async with closed_shop.orders("orders-2") as orders:
            await check(closed_shop, orders, inventory)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("method", ["RefundPayment", "ReleaseStock"])
async def test_a_crash_while_a_cancelled_order_is_undone_conserves_money_and_stock(
    closed_shop, method, after
):
    trap = Trap(method, after=after)
    async with closed_shop.inventory() as inventory, closed_shop.payments():
        async with closed_shop.orders("orders-1", trap) as orders, asyncio.timeout(20):
            order = await orders.CreateOrder(asking(("mug", 2), wait=False, card="card-slow"))
            # Reserved: the charge stands in the journal, and has to be undone.
            await reached(orders, order.order_id, ORDER_STATUS_RESERVED)
            cancelling = asyncio.ensure_future(
                orders.CancelOrder(CancelOrderRequest(order_id=order.order_id))
            )
            await trap.caught.wait()
            cancelling.cancel()
        async with closed_shop.orders("orders-2") as orders:
            await check(closed_shop, orders, inventory)
