"""The OrderService of the contract on top of the handlers: translation, and nothing else."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any
from uuid import uuid4

from google.protobuf.timestamp_pb2 import Timestamp
from shop.orders.v1 import (
    CancelOrderRequest,
    CreateOrderRequest,
    GetOrderRequest,
    ListOrdersRequest,
    ListOrdersResponse,
    Order,
    OrderServiceServicer,
    OrderStatus,
    UpdateOrderRequest,
    WatchOrderRequest,
)

from mesh.errors import Code
from mesh.inbound import INBOUND
from mesh.server.idempotency import in_one_transaction, keep
from mesh.store import Transaction
from services.access import confined, customer
from services.answering import Table, answering
from services.orders import domain
from services.orders.events import money_message
from services.orders.handlers import Orders
from services.paging import page
from services.tracing import traceparent

ERRORS: Table = {
    domain.OrderNotFound: (Code.NOT_FOUND, "ORDER_NOT_FOUND"),
    domain.OrderConfirmed: (Code.FAILED_PRECONDITION, "ORDER_CONFIRMED"),
    domain.InvalidRevision: (Code.INVALID_ARGUMENT, "INVALID_UPDATE"),
}

# How long a call waits for an order's end when it has no deadline, and how long before its
# deadline it answers the order as it is; seconds.
LONGEST_WAIT = 60.0
LONGEST_CANCEL = 5.0
ANSWER_BEFORE = 0.05

PREFIX = "ORDER_STATUS_"


class OrderServicer(OrderServiceServicer):
    """Answers OrderService from *orders*."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    @in_one_transaction
    async def CreateOrder(self, request: CreateOrderRequest, context: Any) -> Order:
        # Who waits for the end is answered the end, and so is a duplicate.
        confined(request.order.customer_id, "order.customer_id")
        kept = partial(_keep, final=not request.wait)
        order = await self._orders.create(_wanted(request.order), kept, traceparent())
        if request.wait:
            order = await self._orders.finished(order.order_id, _patience(LONGEST_WAIT))
        return to_message(order)

    async def GetOrder(self, request: GetOrderRequest, context: Any) -> Order:
        with answering(ERRORS):
            return to_message(await self._orders.get(request.order_id, customer()))

    async def ListOrders(self, request: ListOrdersRequest, context: Any) -> ListOrdersResponse:
        customer_id = confined(request.customer_id)
        filters = (customer_id, request.status)
        asked = page(request.page_size, request.page_token, key=(int, str), filters=filters)
        after = (int(asked.after[0]), str(asked.after[1])) if asked.after else None
        status = _status(request.status) if request.status else None
        found = await self._orders.page(customer_id, status, after, asked.size + 1)
        shown = found[: asked.size]
        token = ""
        if len(found) > asked.size:
            token = asked.next_token((shown[-1].created, shown[-1].order_id))
        return ListOrdersResponse(
            orders=[to_message(order) for order in shown], next_page_token=token
        )

    async def UpdateOrder(self, request: UpdateOrderRequest, context: Any) -> Order:
        with answering(ERRORS):
            if not request.order.order_id:
                raise domain.InvalidRevision("order.order_id", "must name the order to change")
            changes = _changes(request)
            return to_message(
                await self._orders.revise(request.order.order_id, changes, customer())
            )

    async def CancelOrder(self, request: CancelOrderRequest, context: Any) -> Order:
        with answering(ERRORS):
            return to_message(
                await self._orders.cancel(request.order_id, _patience(LONGEST_CANCEL), customer())
            )

    async def WatchOrder(self, request: WatchOrderRequest, context: Any) -> AsyncIterator[Order]:
        with answering(ERRORS):
            async with aclosing(self._orders.watch(request.order_id, customer())) as orders:
                async for order in orders:
                    yield to_message(order)


def to_message(order: domain.Order) -> Order:
    created, updated = Timestamp(), Timestamp()
    created.FromNanoseconds(order.created)
    updated.FromNanoseconds(order.updated)
    return Order(
        order_id=order.order_id,
        customer_id=order.customer_id,
        items=[
            Order.Item(
                product_id=item.product_id,
                quantity=item.quantity,
                unit_price=money_message(item.unit_price),
            )
            for item in order.items
        ],
        payment_method=order.payment_method,
        note=order.note,
        shipping_address=order.shipping_address,
        status=OrderStatus.Value(f"{PREFIX}{order.status.value}"),
        cancel_reason=order.cancel_reason.value if order.cancel_reason else "",
        total=money_message(order.total),
        create_time=created,
        update_time=updated,
    )


async def _keep(tx: Transaction, order: domain.Order, *, final: bool) -> None:
    await keep(tx, to_message(order), final=final)


def _wanted(message: Order) -> domain.Order:
    """What a customer may say of an order; the rest of the message is the shop's (AIP-203)."""
    return domain.Order(
        order_id=str(uuid4()),
        customer_id=message.customer_id,
        items=tuple(domain.Item(item.product_id, item.quantity) for item in message.items),
        payment_method=message.payment_method,
        note=message.note,
        shipping_address=message.shipping_address,
    )


def _changes(request: UpdateOrderRequest) -> dict[str, str]:
    """The new values by field name, as the mask says; without one, the fields that have a value."""
    order = request.order
    values = {"note": order.note, "shipping_address": order.shipping_address}
    named = list(request.update_mask.paths)
    if not named:
        return {field: value for field, value in values.items() if value}
    if "*" in named:
        return values
    # The id in the mask is the id of the order itself: it can't differ.
    return {field: values.get(field, "") for field in named if field != "order_id"}


def _status(number: OrderStatus.ValueType) -> domain.Status:
    return domain.Status(OrderStatus.Name(number).removeprefix(PREFIX))


def _patience(longest: float) -> float:
    """Seconds to wait for an order's end: until shortly before the call's deadline."""
    inbound = INBOUND.get()
    if inbound is None or inbound.deadline is None:
        return longest
    return min(longest, max(0.0, inbound.deadline - time.monotonic() - ANSWER_BEFORE))
