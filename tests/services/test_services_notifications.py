"""NotificationService over a socket: one notification per event, listed and sent as they come."""

import asyncio

import grpc
import pytest
from shop.notifications.v1 import ListNotificationsRequest, SubscribeRequest
from shop.orders.v1 import OrderServiceStub

from mesh.status import from_error
from tests.services.shopping import asking


async def listed(post, customer: str = "c-1", size: int = 0) -> list:
    """All notifications of a customer, oldest first, page by page."""
    request = ListNotificationsRequest(customer_id=customer, page_size=size)
    found = []
    while True:
        answer = await post.ListNotifications(request)
        found += answer.notifications
        if not answer.next_page_token:
            return found[::-1]
        request.page_token = answer.next_page_token


async def arrived(post, count: int, customer: str = "c-1") -> list:
    """All notifications of a customer, once there are *count*, as a subscriber would get them."""
    call = post.Subscribe()
    await call.write(SubscribeRequest(customer_id=customer))
    await call.initial_metadata()
    found = await listed(post, customer)
    while len(found) < count:
        async with asyncio.timeout(10):
            found.append(await call.read())
    call.cancel()
    return found


async def test_every_event_of_an_order_is_told_once(shop):
    good = await shop.orders.CreateOrder(asking(("mug", 1)))
    bad = await shop.orders.CreateOrder(asking(("mug", 101)))

    told = await arrived(shop.notifications, 4)

    assert [(each.order_id, each.kind) for each in told] == [
        (good.order_id, "OrderCreated"),
        (good.order_id, "OrderConfirmed"),
        (bad.order_id, "OrderCreated"),
        (bad.order_id, "OrderCancelled"),
    ]
    assert told[3].text.endswith("we have too little of it.")
    assert len({each.notification_id for each in told}) == 4


async def test_two_instances_tell_everything_once(shop):
    async with shop.shop.notifications() as second:
        for _ in range(5):
            await shop.orders.CreateOrder(asking(("mug", 1)))
        told = await arrived(second, 10)

    assert len({each.notification_id for each in told}) == 10
    assert await listed(shop.notifications, size=3) == told


async def test_what_happened_while_nobody_listened_is_told_later(closed_shop):
    async with closed_shop.inventory(), closed_shop.payments(), closed_shop.orders() as orders:
        await orders.CreateOrder(asking(("mug", 1)))
        async with closed_shop.notifications() as post:
            assert len(await arrived(post, 2)) == 2
        await orders.CreateOrder(asking(("mug", 1)))
        async with closed_shop.notifications() as post:
            assert len(await arrived(post, 4)) == 4


async def order(orders: OrderServiceStub, customer: str) -> str:
    made = await orders.CreateOrder(asking(("none", 1), customer=customer))
    return made.order_id


async def test_a_subscriber_hears_of_the_customers_it_named_and_of_new_things_only(shop):
    await order(shop.orders, "c-1")
    await arrived(shop.notifications, 2)
    call = shop.notifications.Subscribe()
    await call.write(SubscribeRequest(customer_id="c-1"))
    await call.initial_metadata()

    await order(shop.orders, "c-2")
    mine = await order(shop.orders, "c-1")

    heard = [await call.read(), await call.read()]
    assert [each.order_id for each in heard] == [mine, mine]
    call.cancel()


async def test_a_subscription_goes_on_where_the_last_one_broke(shop):
    await order(shop.orders, "c-1")
    first, second = await arrived(shop.notifications, 2)
    call = shop.notifications.Subscribe(
        iter([SubscribeRequest(customer_id="c-1", after_notification_id=first.notification_id)])
    )

    assert await call.read() == second
    call.cancel()


@pytest.mark.parametrize(
    ("request_", "code", "reason"),
    [
        (SubscribeRequest(), "INVALID_ARGUMENT", "INVALID_REQUEST"),
        (
            SubscribeRequest(customer_id="c-1", after_notification_id="none"),
            "NOT_FOUND",
            "NOTIFICATION_NOT_FOUND",
        ),
    ],
)
async def test_a_bad_subscription_fails(shop, request_, code, reason):
    call = shop.notifications.Subscribe(iter([request_]))

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call.read()

    error = from_error(failed.value)
    assert (error.code.name, error.reason) == (code, reason)


async def test_a_subscription_that_names_nobody_ends(shop):
    call = shop.notifications.Subscribe(iter([]))

    assert await call.read() is grpc.aio.EOF


async def test_a_bad_page_token_is_named(shop):
    request = ListNotificationsRequest(page_token="nonsense")

    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await shop.notifications.ListNotifications(request)

    assert from_error(failed.value).fields[0][0] == "page_token"
