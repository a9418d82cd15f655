"""Past the gateway, on a service's own port, nobody is believed without proof."""

from __future__ import annotations

import time

import pytest
from proxyless.events.v1 import EventFeedStub, FollowRequest
from shop.inventory.v1 import InventoryServiceStub, ReserveStockRequest
from shop.notifications.v1 import (
    ListNotificationsRequest,
    NotificationServiceStub,
    SubscribeRequest,
)
from shop.orders.v1 import (
    CancelOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    OrderServiceStub,
    UpdateOrderRequest,
    WatchOrderRequest,
)
from shop.payments.v1 import GetOrderPaymentRequest, PaymentServiceStub, RefundPaymentRequest

from mesh.identity import Caller, Seal
from tests.services.shopping import asking, refused

pytest.importorskip("jwt", reason="needs the extra auth")
from tests.services.guarding import SECRET, as_, token


async def test_past_the_gateway_a_token_counts_as_much(guarded):
    name = (await guarded.buy("ada"))["orderId"]
    async with guarded.channel("orders") as channel, guarded.channel("payments") as till:
        orders, payments = OrderServiceStub(channel), PaymentServiceStub(till)
        mine = await orders.GetOrder(GetOrderRequest(order_id=name), metadata=as_("ada"))
        listed = await orders.ListOrders(ListOrdersRequest(), metadata=as_("bob"))
        paid = GetOrderPaymentRequest(order_id=name)
        payment = await payments.GetOrderPayment(paid, metadata=as_("ada"))
        update = UpdateOrderRequest()
        update.order.order_id, update.order.note = name, "bob"
        watch = orders.WatchOrder(WatchOrderRequest(order_id=name), metadata=as_("bob"))
        said = [
            await refused(orders.GetOrder(GetOrderRequest(order_id=name), metadata=as_("bob"))),
            await refused(orders.UpdateOrder(update, metadata=as_("bob"))),
            await refused(orders.CancelOrder(CancelOrderRequest(order_id=name), metadata=as_("b"))),
            await refused(anext(aiter(watch))),
            await refused(payments.GetOrderPayment(paid, metadata=as_("bob"))),
            await refused(
                orders.CreateOrder(asking(("mug", 1), customer="ada"), metadata=as_("bob"))
            ),
        ]

    assert (mine.order_id, payment.order_id, list(listed.orders)) == (name, name, [])
    assert [code for code, _, _ in said] == [*["NOT_FOUND"] * 5, "PERMISSION_DENIED"]
    assert said[5][1:] == ("OTHER_CUSTOMER", ["order.customer_id"])


def unproven() -> list[tuple[tuple[str, str], ...]]:
    """What somebody may send who would like to be somebody else."""
    sealed = Seal([SECRET]).say(Caller("user:ada"))
    return [
        (),
        (("x-mesh-principal", "user:ada"),),
        (("x-mesh-principal", "service:orders"),),
        (("x-mesh-principal", "user:boss"), ("x-mesh-seal", "9999999999.AAAA")),
        tuple(Seal([b"another secret of over 32 characters"]).say(Caller("user:boss"))),
        tuple(Seal([SECRET], lambda: time.time() - 600).say(Caller("user:boss"))),
        tuple(Seal([SECRET], lambda: time.time() + 600).say(Caller("user:boss"))),
        (*sealed, ("x-mesh-subject", "bob")),
        (*sealed, ("x-mesh-principal", "user:boss")),
        (("authorization", "Bearer nonsense"),),
        (("authorization", "Basic YWRhOmFkYQ=="),),
        (("authorization", token("ada")), ("authorization", token("boss"))),
    ]


async def test_nobody_is_believed_without_proof(guarded):
    async with guarded.channel("orders") as channel, guarded.channel("notifications") as post:
        orders, feed = OrderServiceStub(channel), EventFeedStub(channel)
        told = NotificationServiceStub(post)
        for metadata in unproven():
            follow = feed.Follow(FollowRequest(), metadata=metadata)
            listing = ListNotificationsRequest()
            said = [
                await refused(orders.ListOrders(ListOrdersRequest(), metadata=metadata)),
                await refused(anext(aiter(follow))),
                await refused(told.ListNotifications(listing, metadata=metadata)),
            ]
            assert said == [("UNAUTHENTICATED", "UNAUTHENTICATED", [])] * 3, metadata


async def test_feeds_and_subscriptions_tell_nobody_of_others(guarded):
    async with (
        guarded.channel("orders") as channel,
        guarded.channel("inventory") as stock,
        guarded.channel("payments") as till,
        guarded.channel("notifications") as post,
    ):
        follow = EventFeedStub(channel).Follow(FollowRequest(only_past=True), metadata=as_("ada"))
        reserving = InventoryServiceStub(stock).ReserveStock(
            ReserveStockRequest(
                reservation={"order_id": "o", "items": [{"product_id": "mug", "quantity": 1}]}
            ),
            metadata=as_("ada"),
        )
        refunding = PaymentServiceStub(till).RefundPayment(
            RefundPaymentRequest(payment_id="p"), metadata=as_("ada")
        )
        hearing = NotificationServiceStub(post).Subscribe(
            iter([SubscribeRequest(customer_id="bob")]), metadata=as_("ada")
        )
        said = [
            await refused(anext(aiter(follow))),
            await refused(reserving),
            await refused(refunding),
            await refused(anext(aiter(hearing))),
        ]

    assert [code for code, _, _ in said] == ["PERMISSION_DENIED"] * 4
    assert [reason for _, reason, _ in said] == [*["NOT_FOR_CUSTOMERS"] * 3, "OTHER_CUSTOMER"]
