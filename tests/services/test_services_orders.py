"""OrderService over a socket: the order's life, with every service behind it."""

import asyncio

import grpc
import pytest
from shop.inventory.v1 import (
    RESERVATION_STATUS_COMMITTED,
    RESERVATION_STATUS_RELEASED,
    GetOrderReservationRequest,
    GetProductRequest,
)
from shop.orders.v1 import (
    ORDER_STATUS_CANCELLED,
    ORDER_STATUS_CONFIRMED,
    ORDER_STATUS_PAID,
    ORDER_STATUS_PENDING,
    ORDER_STATUS_RESERVED,
    CancelOrderRequest,
    CreateOrderRequest,
    ListOrdersRequest,
    Order,
    OrderServiceStub,
    UpdateOrderRequest,
    WatchOrderRequest,
)
from shop.payments.v1 import (
    PAYMENT_STATUS_CAPTURED,
    PAYMENT_STATUS_DECLINED,
    PAYMENT_STATUS_REFUNDED,
    GetOrderPaymentRequest,
)

from tests.services.shopping import asking, cents, reached, refused, wanted


async def test_an_order_is_confirmed_paid_and_its_stock_sold(shop):
    order = await shop.orders.CreateOrder(asking(("mug", 2), ("jug", 1)))

    payment = await shop.payments.GetOrderPayment(GetOrderPaymentRequest(order_id=order.order_id))
    reservation = await shop.inventory.GetOrderReservation(
        GetOrderReservationRequest(order_id=order.order_id)
    )
    mug = await shop.inventory.GetProduct(GetProductRequest(product_id="mug"))
    assert order.status == ORDER_STATUS_CONFIRMED
    assert cents(order.total) == 5650
    assert [cents(item.unit_price) for item in order.items] == [1450, 2750]
    assert (payment.status, payment.amount) == (PAYMENT_STATUS_CAPTURED, order.total)
    assert reservation.status == RESERVATION_STATUS_COMMITTED
    assert (mug.available, mug.reserved, mug.sold) == (98, 0, 2)


async def test_without_wait_the_answer_comes_at_once_and_is_pending(shop):
    order = await shop.orders.CreateOrder(asking(("mug", 1), wait=False))

    assert order.status == ORDER_STATUS_PENDING
    assert not order.HasField("total")
    assert order.create_time == order.update_time


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (asking(("mug", 1), card="card-declined"), "CARD_DECLINED"),
        (asking(("mug", 101)), "OUT_OF_STOCK"),
        (asking(("mug", 60), ("mug", 60)), "OUT_OF_STOCK"),
        (asking(("none", 1)), "PRODUCT_NOT_FOUND"),
        (asking(("mug", 1), ("teapot", 1)), "PRODUCT_NOT_FOUND"),
    ],
)
async def test_what_cannot_be_sold_cancels_the_order_and_leaves_the_stock(shop, request_, reason):
    order = await shop.orders.CreateOrder(request_)

    mug = await shop.inventory.GetProduct(GetProductRequest(product_id="mug"))
    assert (order.status, order.cancel_reason) == (ORDER_STATUS_CANCELLED, reason)
    assert (mug.available, mug.reserved, mug.sold) == (100, 0, 0)


async def test_a_declined_card_leaves_a_declined_payment_and_a_released_reservation(shop):
    order = await shop.orders.CreateOrder(asking(("mug", 1), card="card-declined"))

    payment = await shop.payments.GetOrderPayment(GetOrderPaymentRequest(order_id=order.order_id))
    reservation = await shop.inventory.GetOrderReservation(
        GetOrderReservationRequest(order_id=order.order_id)
    )
    assert payment.status == PAYMENT_STATUS_DECLINED
    assert reservation.status == RESERVATION_STATUS_RELEASED


async def test_a_slow_card_confirms_the_order_all_the_same(shop):
    order = await shop.orders.CreateOrder(asking(("mug", 1), card="card-slow"))

    assert order.status == ORDER_STATUS_CONFIRMED


async def test_many_who_wait_keep_nobody_out(shop):
    """Waiting is not work: a crowd of watchers and waiting customers overloads no server."""
    addresses = [shop.shop.addresses["orders"]] * 2
    options = (("grpc.use_local_subchannel_pool", 1),)
    async with (
        grpc.aio.insecure_channel(addresses[0], options=options) as one,
        grpc.aio.insecure_channel(addresses[1], options=options) as other,
    ):
        crowd = [OrderServiceStub(channel) for channel in (one, other)]
        waiting = [
            asyncio.ensure_future(
                crowd[number % 2].CreateOrder(asking(("mug", 1), card="card-slow"), timeout=60)
            )
            for number in range(150)
        ]
        answers = await asyncio.gather(*waiting)
    listed = await shop.orders.ListOrders(ListOrdersRequest(page_size=1000))

    confirmed = [order for order in answers if order.status == ORDER_STATUS_CONFIRMED]
    assert len(confirmed) == 100
    assert {order.cancel_reason for order in answers} == {"", "OUT_OF_STOCK"}
    assert len(listed.orders) == 150


async def test_what_only_the_shop_may_say_is_ignored(shop):
    sent = wanted(("mug", 1))
    sent.order_id = "mine"
    sent.status = ORDER_STATUS_CONFIRMED
    sent.total.units = 1
    sent.items[0].unit_price.nanos = -5
    sent.cancel_reason = "NONE"

    order = await shop.orders.CreateOrder(CreateOrderRequest(order=sent, wait=True))

    assert order.order_id != "mine"
    assert cents(order.total) == 1450
    assert order.cancel_reason == ""


@pytest.mark.parametrize("wait", [False, True])
async def test_the_same_key_makes_one_order(shop, wait):
    request = asking(("mug", 1), wait=wait, key="k-1")
    first = await shop.orders.CreateOrder(request)
    again = await shop.orders.CreateOrder(request)
    listed = await shop.orders.ListOrders(ListOrdersRequest())

    assert again == first
    assert len(listed.orders) == 1


async def test_a_watch_shows_every_change_and_then_ends(shop):
    created = await shop.orders.CreateOrder(asking(("mug", 1), wait=False, card="card-slow"))

    seen = [
        order.status
        async for order in shop.orders.WatchOrder(WatchOrderRequest(order_id=created.order_id))
    ]

    life = [
        ORDER_STATUS_PENDING,
        ORDER_STATUS_RESERVED,
        ORDER_STATUS_PAID,
        ORDER_STATUS_CONFIRMED,
    ]
    assert seen == life[life.index(seen[0]) :]
    again = shop.orders.WatchOrder(WatchOrderRequest(order_id=created.order_id))
    assert [order.status async for order in again] == [ORDER_STATUS_CONFIRMED]


async def test_a_watch_on_one_instance_sees_what_another_one_changes(shop):
    async with shop.shop.orders("orders-2") as other:
        created = await shop.orders.CreateOrder(asking(("mug", 1), wait=False, card="card-slow"))
        watch = other.WatchOrder(WatchOrderRequest(order_id=created.order_id))
        notes = [(await watch.read()).note]
        order = Order(order_id=created.order_id, note="ring twice")

        await shop.orders.UpdateOrder(UpdateOrderRequest(order=order))

        while (seen := await watch.read()) is not grpc.aio.EOF:
            notes.append(seen.note)
    assert (notes[0], notes[-1]) == ("", "ring twice")


async def test_watching_an_unknown_order_fails_before_the_first_message(shop):
    watch = shop.orders.WatchOrder(WatchOrderRequest(order_id="none"))

    assert await refused(watch.read()) == ("NOT_FOUND", "ORDER_NOT_FOUND", [])


@pytest.mark.parametrize("status", [ORDER_STATUS_PENDING, ORDER_STATUS_RESERVED])
async def test_an_order_on_its_way_can_be_cancelled(shop, status):
    created = await shop.orders.CreateOrder(asking(("mug", 3), wait=False, card="card-slow"))
    await reached(shop.orders, created.order_id, status)
    request = CancelOrderRequest(order_id=created.order_id)

    order = await shop.orders.CancelOrder(request)

    mug = await shop.inventory.GetProduct(GetProductRequest(product_id="mug"))
    assert (order.status, order.cancel_reason) == (ORDER_STATUS_CANCELLED, "CANCELLED_BY_CUSTOMER")
    assert (mug.available, mug.reserved, mug.sold) == (100, 0, 0)
    assert await shop.orders.CancelOrder(request) == order


async def test_a_paid_order_can_be_cancelled_and_its_money_comes_back(closed_shop):
    closed_shop.slow_card = 1.0
    async with closed_shop.payments() as payments, closed_shop.orders() as orders:
        async with closed_shop.inventory():
            created = await orders.CreateOrder(asking(("mug", 3), wait=False, card="card-slow"))
            await reached(orders, created.order_id, ORDER_STATUS_RESERVED)
        # The stock can't be sold now: the order stays PAID until it is cancelled.
        await reached(orders, created.order_id, ORDER_STATUS_PAID)
        async with closed_shop.inventory() as inventory:
            await orders.CancelOrder(CancelOrderRequest(order_id=created.order_id))
            await reached(orders, created.order_id, ORDER_STATUS_CANCELLED)
            mug = await inventory.GetProduct(GetProductRequest(product_id="mug"))
        request = GetOrderPaymentRequest(order_id=created.order_id)
        payment = await payments.GetOrderPayment(request)

    assert payment.status == PAYMENT_STATUS_REFUNDED
    assert (mug.available, mug.reserved, mug.sold) == (100, 0, 0)


async def test_a_confirmed_order_cannot_be_cancelled(shop):
    order = await shop.orders.CreateOrder(asking(("mug", 1)))

    said = await refused(shop.orders.CancelOrder(CancelOrderRequest(order_id=order.order_id)))

    assert said == ("FAILED_PRECONDITION", "ORDER_CONFIRMED", [])


async def test_an_order_cancelled_for_another_reason_is_answered_again(shop):
    order = await shop.orders.CreateOrder(asking(("none", 1)))

    assert await shop.orders.CancelOrder(CancelOrderRequest(order_id=order.order_id)) == order


async def test_an_order_that_takes_too_long_is_turned_back(closed_shop):
    closed_shop.deadline, closed_shop.slow_card = 0.3, 1.0
    async with (
        closed_shop.inventory() as inventory,
        closed_shop.payments() as payments,
        closed_shop.orders() as orders,
    ):
        order = await orders.CreateOrder(asking(("mug", 1), card="card-slow"))
        mug = await inventory.GetProduct(GetProductRequest(product_id="mug"))
        paid = payments.GetOrderPayment(GetOrderPaymentRequest(order_id=order.order_id))
        payment = await answer_or_none(paid)

    assert (order.status, order.cancel_reason) == (ORDER_STATUS_CANCELLED, "TIMED_OUT")
    assert (mug.available, mug.reserved, mug.sold) == (100, 0, 0)
    assert payment is None or payment.status == PAYMENT_STATUS_REFUNDED


async def test_the_stock_of_an_order_that_nobody_can_charge_returns_when_its_time_is_up(
    closed_shop,
):
    """The payments are away for longer than the order has: it ends as soon as they are back."""
    closed_shop.deadline = 0.5
    async with closed_shop.inventory() as inventory, closed_shop.orders() as orders:
        order = await orders.CreateOrder(asking(("mug", 3), wait=False))
        await reached(orders, order.order_id, ORDER_STATUS_RESERVED)
        mug = await inventory.GetProduct(GetProductRequest(product_id="mug"))
        assert (mug.available, mug.reserved) == (97, 3)
        await asyncio.sleep(closed_shop.deadline)
        async with closed_shop.payments() as payments:
            await reached(orders, order.order_id, ORDER_STATUS_CANCELLED)
            order = await orders.CancelOrder(CancelOrderRequest(order_id=order.order_id))
            mug = await inventory.GetProduct(GetProductRequest(product_id="mug"))
            paid = payments.GetOrderPayment(GetOrderPaymentRequest(order_id=order.order_id))
            assert await answer_or_none(paid) is None

    assert order.cancel_reason == "TIMED_OUT"
    assert (mug.available, mug.reserved, mug.sold) == (100, 0, 0)


async def answer_or_none(call):
    """The answer of a call; None when it says NOT_FOUND."""
    try:
        return await call
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.NOT_FOUND:
            return None
        raise
