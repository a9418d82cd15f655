"""
Copies the books: every service is asked through its own API, page by page, and nothing is locked.

The order of the questions is what makes the answers comparable: see domain.py.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from proxyless.events.v1 import EventFeedStub, FollowRequest
from shop.inventory.v1 import (
    GetOrderReservationRequest,
    GetReservationRequest,
    InventoryServiceStub,
    ListProductsRequest,
)
from shop.notifications.v1 import ListNotificationsRequest, NotificationServiceStub
from shop.orders.v1 import ListOrdersRequest, OrderServiceStub
from shop.payments.v1 import GetOrderPaymentRequest, GetPaymentRequest, PaymentServiceStub

from services.audit import translating
from services.audit.domain import (
    Books,
    Event,
    Feed,
    Notification,
    Order,
    Payment,
    Product,
    Reservation,
)
from services.audit.policies import FEED, PAGE

PAGE_SIZE = 1000
# Questions about single things that are asked at once.
AT_ONCE = 16

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Shop:
    """A channel to each service."""

    orders: grpc.aio.Channel
    payments: grpc.aio.Channel
    inventory: grpc.aio.Channel
    notifications: grpc.aio.Channel


async def read(shop: Shop, imported: Mapping[str, int] | None = None) -> Books:
    """Copy everything; errors of a call are the caller's."""
    before = await _orders(shop)
    feeds = [
        await _feed("orders", shop.orders),
        await _feed("payments", shop.payments),
        await _feed("inventory", shop.inventory),
    ]
    payments = await _payments(shop, before, feeds[1])
    reservations = await _reservations(shop, before, feeds[2])
    products = await _products(shop)
    notifications = await _notifications(shop)
    return Books(
        before=before,
        after=await _orders(shop),
        payments=payments,
        reservations=reservations,
        products=products,
        notifications=notifications,
        feeds=feeds,
        now=time.time(),
        imported=imported or {},
    )


async def _orders(shop: Shop) -> dict[str, Order]:
    stub = OrderServiceStub(shop.orders)

    async def page(token: str) -> Any:
        request = ListOrdersRequest(page_size=PAGE_SIZE, page_token=token)
        return await stub.ListOrders(request, timeout=PAGE)

    listed = await _all(page, lambda answer: answer.orders)
    return {each.order_id: translating.order(each) for each in listed}


async def _products(shop: Shop) -> list[Product]:
    stub = InventoryServiceStub(shop.inventory)

    async def page(token: str) -> Any:
        request = ListProductsRequest(page_size=PAGE_SIZE, page_token=token)
        return await stub.ListProducts(request, timeout=PAGE)

    return [translating.product(each) for each in await _all(page, lambda answer: answer.products)]


async def _notifications(shop: Shop) -> list[Notification]:
    stub = NotificationServiceStub(shop.notifications)

    async def page(token: str) -> Any:
        request = ListNotificationsRequest(page_size=PAGE_SIZE, page_token=token)
        return await stub.ListNotifications(request, timeout=PAGE)

    listed = await _all(page, lambda answer: answer.notifications)
    return [translating.notification(each) for each in listed]


async def _payments(shop: Shop, orders: Iterable[str], feed: Feed) -> list[Payment]:
    """The payments of the orders, and those that nothing but an event tells of."""
    stub = PaymentServiceStub(shop.payments)

    async def of_order(name: str) -> Any:
        return await stub.GetOrderPayment(GetOrderPaymentRequest(order_id=name), timeout=PAGE)

    async def by_id(name: str) -> Any:
        return await stub.GetPayment(GetPaymentRequest(payment_id=name), timeout=PAGE)

    found = [translating.payment(each) for each in await _each(of_order, orders)]
    known = {payment.payment_id for payment in found}
    others = feed.by_aggregate().keys() - known
    return found + [translating.payment(each) for each in await _each(by_id, others)]


async def _reservations(shop: Shop, orders: Iterable[str], feed: Feed) -> list[Reservation]:
    """The reservations of the orders, and those that nothing but an event tells of."""
    stub = InventoryServiceStub(shop.inventory)

    async def of_order(name: str) -> Any:
        request = GetOrderReservationRequest(order_id=name)
        return await stub.GetOrderReservation(request, timeout=PAGE)

    async def by_id(name: str) -> Any:
        request = GetReservationRequest(reservation_id=name)
        return await stub.GetReservation(request, timeout=PAGE)

    found = [translating.reservation(each) for each in await _each(of_order, orders)]
    known = {reservation.reservation_id for reservation in found}
    others = feed.by_aggregate().keys() - known
    return found + [translating.reservation(each) for each in await _each(by_id, others)]


async def _feed(source: str, channel: grpc.aio.Channel) -> Feed:
    """The events that are there; without a name, so that nobody keeps events for us."""
    stream = EventFeedStub(channel).Follow(FollowRequest(only_past=True), timeout=FEED)
    events: list[Event] = [translating.event(each) async for each in stream]
    return Feed(source, events)


async def _all(page: Callable[[str], Awaitable[T]], of: Callable[[T], Iterable[V]]) -> list[V]:
    """What all pages of a list hold."""
    found: list[V] = []
    token = ""
    while True:
        answer: Any = await page(token)
        found += of(answer)
        token = answer.next_page_token
        if not token:
            return found


async def _each(ask: Callable[[str], Awaitable[T]], names: Iterable[str]) -> list[T]:
    """What is answered for each name, less those that are not found."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> T | None:
        async with gate:
            try:
                return await ask(name)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.NOT_FOUND:
                    raise
                return None

    answers = await asyncio.gather(*(one(name) for name in names))
    return [answer for answer in answers if answer is not None]
