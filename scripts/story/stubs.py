"""The chapters told over gRPC: generated stubs on mesh channels, and grpcurl by reflection."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
from shop.inventory.v1 import InventoryServiceStub, ListProductsRequest
from shop.notifications.v1 import ListNotificationsRequest, NotificationServiceStub
from shop.orders.v1 import (
    CreateOrderRequest,
    GetOrderRequest,
    Order,
    OrderServiceStub,
    OrderStatus,
    WatchOrderRequest,
)
from shop.payments.v1 import GetOrderPaymentRequest, PaymentServiceStub

from scripts import parts
from scripts.story.visit import Visit, Wrong, expect

GRPCURL_SECONDS = 20.0
HEARD_SECONDS = 10.0


async def stubs(visit: Visit) -> str:
    orders = OrderServiceStub(visit.orders)
    shelves = await InventoryServiceStub(visit.inventory).ListProducts(ListProductsRequest())
    item = Order.Item(product_id=shelves.products[0].product_id, quantity=1)
    wanted = Order(customer_id="grace", items=[item], payment_method="card")
    request = CreateOrderRequest(order=wanted, request_id="story-2", wait=True)
    placed = await orders.CreateOrder(request)
    status = OrderStatus.Name(placed.status)
    expect(status == "ORDER_STATUS_CONFIRMED", f"the order is {status}")
    expect(await orders.CreateOrder(request) == placed, "the same request_id made another order")
    expect(await orders.GetOrder(GetOrderRequest(order_id=placed.order_id)) == placed, "changed")
    paid = await PaymentServiceStub(visit.payments).GetOrderPayment(
        GetOrderPaymentRequest(order_id=placed.order_id)
    )
    expect(paid.amount == placed.total, f"paid {paid.amount}, the total is {placed.total}")
    watched = [
        each async for each in orders.WatchOrder(WatchOrderRequest(order_id=placed.order_id))
    ]
    expect(watched == [placed], f"the watch of an order that has ended answered {watched}")
    try:
        await orders.GetOrder(GetOrderRequest(order_id="nobody"))
    except grpc.aio.AioRpcError as error:
        expect(error.code() is grpc.StatusCode.NOT_FOUND, f"an unknown order is {error.code()}")
    else:
        raise Wrong("an unknown order was answered")
    return f"{placed.order_id} placed, read, paid and watched on mesh.Channel"


async def notified(visit: Visit) -> str:
    stub = NotificationServiceStub(visit.notifications)
    kinds: list[str] = []
    try:
        async with asyncio.timeout(HEARD_SECONDS):
            while not {"OrderCreated", "OrderConfirmed"} <= set(kinds):
                listed = await stub.ListNotifications(ListNotificationsRequest(customer_id="grace"))
                kinds = [each.kind for each in listed.notifications]
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Wrong(f"grace was told only {kinds} within {HEARD_SECONDS:.0f} s") from None
    expect(len(kinds) == len(set(kinds)), f"grace was told twice: {kinds}")
    return f"the customer was told once each: {', '.join(reversed(kinds))}"


async def grpcurl(visit: Visit) -> str:
    binary = parts.find("grpcurl")
    if binary is None:
        return "left out, grpcurl is not on PATH (scripts/parts fetches it)"
    address = visit.demo.addresses["orders-1"]
    service = "shop.orders.v1.OrderService"
    listed = await _run(binary, address, "list")
    expect(service in listed.split(), f"list answered {listed}")
    described = await _run(binary, address, "describe", service)
    expect("rpc CreateOrder" in described, f"describe answered {described}")
    answer = await _run(binary, '-d={"customer_id": "grace"}', address, f"{service}/ListOrders")
    expect(json.loads(answer)["orders"][0]["customerId"] == "grace", f"ListOrders: {answer}")
    return "list, describe and a call, by reflection"


async def _run(binary: Path, *arguments: str) -> str:
    process = await asyncio.create_subprocess_exec(
        binary,
        "-plaintext",
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        said, complaint = await asyncio.wait_for(process.communicate(), GRPCURL_SECONDS)
    except TimeoutError:
        process.kill()
        raise Wrong(f"grpcurl {' '.join(arguments)} did not end") from None
    expect(process.returncode == 0, f"grpcurl {' '.join(arguments)}: {complaint.decode()}")
    return said.decode()
