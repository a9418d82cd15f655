"""What the shop's services tell: which events, about what, in which order and of which trace."""

import grpc
import pytest
from proxyless.events.v1 import EventFeedStub, FollowRequest
from shop.events.v1 import Event
from shop.orders.v1 import CreateOrderRequest

from mesh.status import from_error
from tests.services.shopping import asking

TRACE = "0af7651916cd43dd8448eb211c80319c"


async def told(shop, service: str, count: int, **request) -> list:
    """The first *count* events of a service's feed."""
    async with grpc.aio.insecure_channel(shop.shop.addresses[service]) as channel:
        feed = EventFeedStub(channel).Follow(FollowRequest(**request), timeout=10)
        return [await feed.read() for _ in range(count)]


async def buy(shop, request: CreateOrderRequest):
    metadata = (("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"),)
    return await shop.orders.CreateOrder(request, metadata=metadata)


async def test_a_confirmed_order_is_told_by_every_service_in_its_trace(shop):
    order = await buy(shop, asking(("mug", 2)))

    events = {
        "orders": await told(shop, "orders", 2),
        "inventory": await told(shop, "inventory", 1),
        "payments": await told(shop, "payments", 1),
    }

    assert {name: [each.event_type for each in found] for name, found in events.items()} == {
        "orders": ["OrderCreated", "OrderConfirmed"],
        "inventory": ["StockReserved"],
        "payments": ["PaymentCompleted"],
    }
    for found in events.values():
        assert [each.sequence for each in found] == list(range(1, len(found) + 1))
        assert {each.traceparent.split("-")[1] for each in found} == {TRACE}
        for each in found:
            data = Event.FromString(each.payload)
            about = getattr(data, data.WhichOneof("data"))
            assert about.DESCRIPTOR.name == each.event_type
            assert about.order_id == order.order_id
    confirmed = Event.FromString(events["orders"][1].payload).order_confirmed
    completed = Event.FromString(events["payments"][0].payload).payment_completed
    assert confirmed.total == completed.amount == order.total


async def test_a_declined_order_is_told_with_what_was_taken_back(shop):
    order = await buy(shop, asking(("mug", 2), card="card-declined"))

    orders = await told(shop, "orders", 2)
    inventory = await told(shop, "inventory", 2)
    payments = await told(shop, "payments", 1)

    assert [each.event_type for each in orders] == ["OrderCreated", "OrderCancelled"]
    assert [each.event_type for each in inventory] == ["StockReserved", "StockReleased"]
    assert [each.event_type for each in payments] == ["PaymentDeclined"]
    cancelled = Event.FromString(orders[1].payload).order_cancelled
    assert (cancelled.order_id, cancelled.cancel_reason) == (order.order_id, "CARD_DECLINED")
    released = Event.FromString(inventory[1].payload).stock_released
    assert [(item.product_id, item.quantity) for item in released.items] == [("mug", 2)]


async def test_a_feed_goes_on_after_a_position(shop):
    await buy(shop, asking(("mug", 1)))
    first, second = await told(shop, "orders", 2)

    assert await told(shop, "orders", 1, after_position=first.position) == [second]


async def test_a_malformed_follow_names_the_field(shop):
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await told(shop, "orders", 1, after_position=-1)

    assert from_error(failed.value).fields[0][0] == "after_position"
