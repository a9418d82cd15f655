"""The summary page through a real gateway: an order with what belongs to it, or what is missing."""

from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from gateway import Gateway
from services.edge.pages import pages
from tests.services.shopping import Shop, asking


class Edge:
    """A gateway with the shop's pages before a shop whose services come and go."""

    def __init__(self, shop: Shop, http: aiohttp.ClientSession) -> None:
        self.shop = shop
        self.http = http
        self.running: dict[str, AsyncExitStack] = {}

    async def start(self, service: str) -> Any:
        stack = self.running[service] = AsyncExitStack()
        return await stack.enter_async_context(getattr(self.shop, service)())

    async def stop(self, service: str) -> None:
        await self.running.pop(service).aclose()

    async def summary(self, order_id: str) -> tuple[int, dict]:
        async with self.http.get(f"/v1/orders/{order_id}/summary") as answer:
            return answer.status, await answer.json()


@pytest.fixture
async def edge(closed_shop):
    gateway = Gateway(closed_shop.registry)
    pages(gateway)
    async with (
        gateway.serving(port=0) as url,
        aiohttp.ClientSession(url) as http,
        AsyncExitStack() as stack,
    ):
        made = Edge(closed_shop, http)
        for service in ("inventory", "payments"):
            await made.start(service)
        stack.push_async_callback(_stop_all, made)
        yield made


async def _stop_all(edge: Edge) -> None:
    for service in list(edge.running):
        await edge.stop(service)


async def test_a_summary_has_the_order_its_payment_and_its_reservation(edge):
    orders = await edge.start("orders")
    order = await orders.CreateOrder(asking(("mug", 1)))

    status, body = await edge.summary(order.order_id)

    assert status == 200
    assert list(body) == ["order", "payment", "reservation", "missing"]
    assert body["order"]["status"] == "ORDER_STATUS_CONFIRMED"
    assert body["payment"]["status"] == "PAYMENT_STATUS_CAPTURED"
    assert body["reservation"]["status"] == "RESERVATION_STATUS_COMMITTED"
    assert body["missing"] == []


async def test_what_an_order_does_not_have_is_missing_and_said(edge):
    orders = await edge.start("orders")
    order = await orders.CreateOrder(asking(("none", 1)))

    status, body = await edge.summary(order.order_id)

    assert (status, body["payment"], body["reservation"]) == (200, None, None)
    assert [(each["part"], each["code"]) for each in body["missing"]] == [
        ("payment", "NOT_FOUND"),
        ("reservation", "NOT_FOUND"),
    ]


async def test_a_service_that_is_away_is_missing_and_said(edge):
    orders = await edge.start("orders")
    order = await orders.CreateOrder(asking(("mug", 1)))
    await edge.stop("payments")

    status, body = await edge.summary(order.order_id)

    assert (status, body["payment"]) == (200, None)
    assert body["reservation"]["orderId"] == order.order_id
    assert [(each["part"], each["code"]) for each in body["missing"]] == [
        ("payment", "UNAVAILABLE")
    ]


async def test_a_summary_of_no_order_is_not_found(edge):
    await edge.start("orders")

    status, body = await edge.summary("none")

    assert status == 404
    assert "ORDER_NOT_FOUND" in str(body)


async def test_without_the_orders_there_is_no_summary(edge):
    status, _ = await edge.summary("o-1")

    assert status == 503
