"""
The last chapter: once nothing is in flight, money and stock are conserved.

    sum of CAPTURED payments  =  sum of the totals of CONFIRMED orders
    imported                  =  available + reserved + sold, for each product
    sold                      =  what CONFIRMED orders hold
    reserved                  =  0: no finished order holds stock
"""

from __future__ import annotations

import asyncio
from collections import Counter

import grpc
from google.type.money_pb2 import Money
from shop.inventory.v1 import (
    GetOrderReservationRequest,
    InventoryServiceStub,
    Reservation,
    ReservationStatus,
)
from shop.orders.v1 import ListOrdersRequest, Order, OrderServiceStub, OrderStatus
from shop.payments.v1 import GetOrderPaymentRequest, Payment, PaymentServiceStub, PaymentStatus

from scripts.story.rest import imported
from scripts.story.visit import Visit, Wrong, expect

SETTLE_SECONDS = 60.0
AT_ONCE = 8
CONFIRMED = OrderStatus.Value("ORDER_STATUS_CONFIRMED")
ENDED = {CONFIRMED, OrderStatus.Value("ORDER_STATUS_CANCELLED")}
CAPTURED = PaymentStatus.Value("PAYMENT_STATUS_CAPTURED")
HELD = ReservationStatus.Value("RESERVATION_STATUS_HELD")


async def ledger(visit: Visit) -> str:
    orders = await _settled(visit)
    gate = asyncio.Semaphore(AT_ONCE)
    facts = await asyncio.gather(*(_facts(visit, order, gate) for order in orders))
    earned = sum(_nanos(order.total) for order in orders if order.status == CONFIRMED)
    paid = sum(_nanos(payment.amount) for payment, _ in facts if payment.status == CAPTURED)
    expect(earned == paid, f"confirmed orders come to {earned / 1e9}, payments to {paid / 1e9}")
    held = [held.order_id for _, held in facts if held.status == HELD]
    expect(not held, f"stock is still held for {', '.join(held[:5])}")
    sold = Counter[str]()
    for order in orders:
        if order.status == CONFIRMED:
            sold.update({item.product_id: item.quantity for item in order.items})
    for product in (await visit.get("/v1/products"))["products"]:
        name = product["productId"]
        before, now = visit.shelves[name], imported(product)
        expect(now == before, f"{name}: {before} were imported, {now} are accounted for")
        expect(int(product["reserved"]) == 0, f"{name}: {product['reserved']} are reserved")
        gone = int(product["sold"])
        expect(gone == sold[name], f"{name}: {gone} sold, orders hold {sold[name]}")
    confirmed = sum(order.status == CONFIRMED for order in orders)
    return (
        f"{len(orders)} orders, {confirmed} confirmed, {paid / 1e9:.2f} paid for them;"
        " every piece of stock is accounted for"
    )


async def _settled(visit: Visit) -> list[Order]:
    """Every order, once all have ended."""
    orders: list[Order] = []
    try:
        async with asyncio.timeout(SETTLE_SECONDS):
            while True:
                orders = await _all(visit)
                if all(order.status in ENDED for order in orders):
                    return orders
                await asyncio.sleep(0.2)
    except TimeoutError:
        left = Counter(OrderStatus.Name(order.status) for order in orders)
        raise Wrong(f"orders are still open after {SETTLE_SECONDS:.0f} s: {dict(left)}") from None


async def _all(visit: Visit) -> list[Order]:
    stub, orders, token = OrderServiceStub(visit.orders), list[Order](), ""
    while True:
        page = await stub.ListOrders(ListOrdersRequest(page_size=1000, page_token=token))
        orders += page.orders
        token = page.next_page_token
        if not token:
            return orders


async def _facts(
    visit: Visit, order: Order, gate: asyncio.Semaphore
) -> tuple[Payment, Reservation]:
    """The order's payment and reservation; empty ones when it never got so far."""
    payment, reservation = Payment(), Reservation()
    async with gate:
        try:
            asked = GetOrderReservationRequest(order_id=order.order_id)
            reservation = await InventoryServiceStub(visit.inventory).GetOrderReservation(asked)
            charged = GetOrderPaymentRequest(order_id=order.order_id)
            payment = await PaymentServiceStub(visit.payments).GetOrderPayment(charged)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
    return payment, reservation


def _nanos(money: Money) -> int:
    return int(money.units) * 1_000_000_000 + int(money.nanos)
