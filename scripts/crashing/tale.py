"""
What a customer does while a service dies: everything is asked again until it is answered.

    bought      an order that is confirmed
    declined    one whose card is declined: the stock goes back
    cancelled   one that is given up while its card is charged: money and stock go back
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from shop.orders.v1 import (
    CancelOrderRequest,
    CreateOrderRequest,
    GetOrderRequest,
    Order,
    OrderServiceStub,
    OrderStatus,
)

T = TypeVar("T")

CARDS = {"bought": "card", "declined": "card-declined", "cancelled": "card-slow"}
# Whoever dies: how an order may end.  One that was to be cancelled may be through before that.
ENDINGS = {
    "bought": ("CONFIRMED",),
    "declined": ("CARD_DECLINED",),
    "cancelled": ("CANCELLED_BY_CUSTOMER", "CONFIRMED"),
}
PATIENCE = 2.0
LOOK_SECONDS = 0.05
# Behind the reservation, and shorter than a slow card takes: see house.py.
SECOND_THOUGHT = 0.2
AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    # A connection that was reset in the middle of an answer.
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
)
PENDING = OrderStatus.Value("ORDER_STATUS_PENDING")
ENDS = (
    OrderStatus.Value("ORDER_STATUS_CONFIRMED"),
    OrderStatus.Value("ORDER_STATUS_CANCELLED"),
)


async def tell(story: str, channel: grpc.aio.Channel) -> str:
    """Tell the story to its end; what became of the order: CONFIRMED, or why it was cancelled."""
    stub: Any = OrderServiceStub(channel)
    items = [
        Order.Item(product_id="mug", quantity=2),
        Order.Item(product_id="spoon", quantity=1),
    ]
    wanted = Order(customer_id="ada", items=items, payment_method=CARDS[story])
    request = CreateOrderRequest(order=wanted, request_id="the-one")
    order = await _insist(lambda: stub.CreateOrder(request, timeout=PATIENCE))
    if story == "cancelled":
        await _until(stub, order.order_id, lambda order: order.status != PENDING)
        await asyncio.sleep(SECOND_THOUGHT)
        await _give_up(stub, CancelOrderRequest(order_id=order.order_id))
    order = await _until(stub, order.order_id, lambda order: order.status in ENDS)
    return order.cancel_reason or OrderStatus.Name(order.status).removeprefix("ORDER_STATUS_")


def misled(story: str, outcome: str) -> list[str]:
    """What is wrong with such an end of the story, if anything."""
    return [] if outcome in ENDINGS[story] else [f"the order ended as {outcome}"]


async def _give_up(stub: Any, request: CancelOrderRequest) -> None:
    try:
        await _insist(lambda: stub.CancelOrder(request, timeout=PATIENCE))
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.FAILED_PRECONDITION:  # confirmed: too late
            raise


async def _until(stub: Any, order_id: str, true: Callable[[Order], bool]) -> Order:
    asking = GetOrderRequest(order_id=order_id)
    while True:
        order: Order = await _insist(lambda: stub.GetOrder(asking, timeout=PATIENCE))
        if true(order):
            return order
        await asyncio.sleep(LOOK_SECONDS)


async def _insist(call: Callable[[], Awaitable[T]]) -> T:
    """Ask until somebody answers."""
    while True:
        try:
            return await call()
        except grpc.aio.AioRpcError as error:
            if error.code() not in AGAIN:
                raise
            await asyncio.sleep(LOOK_SECONDS)
