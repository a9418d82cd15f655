"""What must be true of a shop in which nothing is in flight, whatever happened to it before."""

from __future__ import annotations

import asyncio

from shop.inventory.v1 import InventoryServiceStub, ListProductsRequest
from shop.orders.v1 import (
    ORDER_STATUS_CANCELLED,
    ORDER_STATUS_CONFIRMED,
    ListOrdersRequest,
    Order,
    OrderServiceStub,
)

from tests.services.shopping import STOCK, Shop, cents


async def settled(orders: OrderServiceStub, seconds: float = 20.0) -> list[Order]:
    """Every order, once each has come to its end."""
    async with asyncio.timeout(seconds):
        while True:
            found: list[Order] = []
            request = ListOrdersRequest(page_size=1000)
            while True:
                answer = await orders.ListOrders(request)
                found += answer.orders
                if not answer.next_page_token:
                    break
                request.page_token = answer.next_page_token
            ends = (ORDER_STATUS_CONFIRMED, ORDER_STATUS_CANCELLED)
            if all(order.status in ends for order in found):
                return found
            await asyncio.sleep(0.02)


async def check(shop: Shop, orders: OrderServiceStub, inventory: InventoryServiceStub) -> None:
    """Money, stock and reservations agree with the orders; assertions say where they do not."""
    made = await settled(orders)
    confirmed = [order for order in made if order.status == ORDER_STATUS_CONFIRMED]
    captured = await shop.rows(
        "payments", "select order_id, units, nanos from payments where status = 'CAPTURED'"
    )
    assert sorted(row[0] for row in captured) == sorted(order.order_id for order in confirmed)
    assert sum(units * 100 + nanos // 10_000_000 for _, units, nanos in captured) == sum(
        cents(order.total) for order in confirmed
    )
    held = await shop.rows("inventory", "select order_id from reservations where status = 'HELD'")
    assert held == [], "a finished order holds stock"

    sold: dict[str, int] = {}
    for order in confirmed:
        for item in order.items:
            sold[item.product_id] = sold.get(item.product_id, 0) + item.quantity
    imported = {product.product_id: product.available for product in STOCK}
    for product in (await inventory.ListProducts(ListProductsRequest())).products:
        assert product.available + product.reserved + product.sold == imported[product.product_id]
        assert (product.reserved, product.sold) == (0, sold.get(product.product_id, 0))
