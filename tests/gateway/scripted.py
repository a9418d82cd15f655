"""A shop of scripted servicers on real sockets, and a gateway before it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import grpc.aio
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_reflection.v1alpha import reflection
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from shop.notifications.v1 import notifications_pb2, notifications_pb2_grpc
from shop.orders.v1 import orders_pb2, orders_pb2_grpc
from shop.payments.v1 import payments_pb2, payments_pb2_grpc

from discovery import Instance
from gateway import Gateway, Limits

ROOT = Path(__file__).parents[2]
LIMITS = Limits(ping_seconds=0.05, leave_seconds=0.0, drain_seconds=2.0)


def descriptors() -> descriptor_pb2.FileDescriptorSet:
    raw = (ROOT / "protos" / "shop.binpb").read_bytes()
    return descriptor_pb2.FileDescriptorSet.FromString(raw)


def packed(message: Any) -> any_pb2.Any:
    detail = any_pb2.Any()
    detail.Pack(message)
    return detail


async def refuse(
    context: Any, code: grpc.StatusCode, message: str, *details: Any, raw: tuple[Any, ...] = ()
) -> None:
    """End the call with a rich status."""
    number = code.value[0]
    status = status_pb2.Status(code=number, message=message)
    status.details.extend([*map(packed, details), *raw])
    metadata = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(code, message, trailing_metadata=metadata)


class Orders(orders_pb2_grpc.OrderServiceServicer):
    """Answers by the order's id: what a test wants to see is in the path."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.metadata: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.entered = asyncio.Event()
        self.go = asyncio.Event()

    async def _seen(self, request: Any, context: Any) -> None:
        self.calls.append(request)
        self.metadata.append(dict(context.invocation_metadata()))

    async def GetOrder(self, request: Any, context: Any) -> Any:
        await self._seen(request, context)
        code_name, _, rest = request.order_id.partition("~")
        match request.order_id:
            case "missing":
                await refuse(
                    context,
                    grpc.StatusCode.NOT_FOUND,
                    "no order missing",
                    error_details_pb2.ErrorInfo(reason="ORDER_NOT_FOUND", domain="shop"),
                )
            case "busy":
                await refuse(
                    context,
                    grpc.StatusCode.ABORTED,
                    "in progress",
                    error_details_pb2.ErrorInfo(
                        reason="IDEMPOTENCY_IN_PROGRESS", domain="proxyless"
                    ),
                    error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=1)),
                )
            case "reused":
                await refuse(
                    context,
                    grpc.StatusCode.INVALID_ARGUMENT,
                    "another request",
                    error_details_pb2.ErrorInfo(
                        reason="IDEMPOTENCY_KEY_REUSED", domain="proxyless"
                    ),
                )
            case "strange":
                unknown = any_pb2.Any(type_url="type.googleapis.com/no.Such", value=b"\x01\x02")
                await refuse(
                    context, grpc.StatusCode.FAILED_PRECONDITION, "strange", raw=(unknown,)
                )
            case "leaky":
                raise RuntimeError("password is hunter2")
            case "large":
                return orders_pb2.Order(note="x" * 3_900_000)
            case "slow":
                self.entered.set()
                try:
                    await self.go.wait()
                finally:
                    self.left.set()
            case _ if code_name in grpc.StatusCode.__members__:
                await context.abort(grpc.StatusCode[code_name], rest or "said so")
        await context.send_initial_metadata((("idempotent-replayed", "true"), ("x-from", "here")))
        return orders_pb2.Order(order_id=request.order_id, note="hello")

    async def ListOrders(self, request: Any, context: Any) -> Any:
        await self._seen(request, context)
        return orders_pb2.ListOrdersResponse()

    async def CreateOrder(self, request: Any, context: Any) -> Any:
        await self._seen(request, context)
        order = orders_pb2.Order()
        order.CopyFrom(request.order)
        order.order_id = "o-1"
        order.status = orders_pb2.ORDER_STATUS_PENDING
        return order

    async def UpdateOrder(self, request: Any, context: Any) -> Any:
        await self._seen(request, context)
        return request.order

    async def CancelOrder(self, request: Any, context: Any) -> Any:
        await self._seen(request, context)
        return orders_pb2.Order(order_id=request.order_id)

    async def WatchOrder(self, request: Any, context: Any) -> AsyncIterator[Any]:
        await self._seen(request, context)
        if request.order_id == "missing":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no order missing")
        if request.order_id == "empty":
            return
        yield orders_pb2.Order(order_id=request.order_id, note="1")
        if request.order_id == "flood":  # until nobody reads any more
            try:
                while True:
                    yield orders_pb2.Order(note="x" * 100_000)
            finally:
                self.left.set()
        if request.order_id == "waits":
            self.entered.set()
            try:
                await self.go.wait()
            finally:
                self.left.set()
        yield orders_pb2.Order(order_id=request.order_id, note="2")
        if request.order_id == "breaks":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "broke")


class Payments(payments_pb2_grpc.PaymentServiceServicer):
    async def GetOrderPayment(self, request: Any, context: Any) -> Any:
        if request.order_id == "unpaid":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no payment")
        if request.order_id == "slowpay":
            await asyncio.sleep(30)
        return payments_pb2.Payment(payment_id="p-1", order_id=request.order_id)


class Inventory(inventory_pb2_grpc.InventoryServiceServicer):
    async def GetOrderReservation(self, request: Any, context: Any) -> Any:
        return inventory_pb2.Reservation(reservation_id="r-1", order_id=request.order_id)

    async def ImportProducts(self, requests: Any, context: Any) -> Any:
        count = 0
        async for _ in requests:
            count += 1
        return inventory_pb2.ImportProductsResponse(imported_count=count)


class Notifications(notifications_pb2_grpc.NotificationServiceServicer):
    def __init__(self) -> None:
        self.left = asyncio.Event()

    async def Subscribe(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        try:
            async for request in requests:
                if request.customer_id == "nobody":
                    await context.abort(grpc.StatusCode.NOT_FOUND, "no such customer")
                yield notifications_pb2.Notification(customer_id=request.customer_id)
        finally:
            self.left.set()


SERVICES: dict[str, tuple[str, Any]] = {
    "orders": ("shop.orders.v1.OrderService", orders_pb2_grpc.add_OrderServiceServicer_to_server),
    "payments": (
        "shop.payments.v1.PaymentService",
        payments_pb2_grpc.add_PaymentServiceServicer_to_server,
    ),
    "inventory": (
        "shop.inventory.v1.InventoryService",
        inventory_pb2_grpc.add_InventoryServiceServicer_to_server,
    ),
    "notifications": (
        "shop.notifications.v1.NotificationService",
        notifications_pb2_grpc.add_NotificationServiceServicer_to_server,
    ),
}


@asynccontextmanager
async def running(
    registry: Any,
    name: str,
    servicer: Any,
    pool: Any = None,
    slot: str = "1",
    version: str = "",
) -> AsyncIterator[str]:
    """One instance: a plain grpc.aio server with reflection, registered."""
    server = grpc.aio.server()
    full_name, add = SERVICES[name]
    if servicer is not None:
        add(servicer, server)
    pool = pool or descriptor_pool.Default()
    names = (full_name, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool=pool)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    instance = Instance(
        name,
        "127.0.0.1",
        port,
        id=f"{name}-{slot}",
        tags=("grpc",),
        meta={"grpc_services": full_name} | ({"version": version} if version else {}),
        check=None,
    )
    try:
        async with registry.register(instance):
            yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


class Shop:
    """Everything a test of the whole gateway talks to."""

    def __init__(
        self,
        url: str,
        http: aiohttp.ClientSession,
        orders: Orders,
        notifications: Notifications,
        gateway: Gateway,
    ) -> None:
        self.url = url
        self.http = http
        self.orders = orders
        self.notifications = notifications
        self.gateway = gateway

    async def ask(
        self, method: str, path: str, **keywords: Any
    ) -> tuple[int, Any, aiohttp.typedefs.CIMultiDictProxy[str]]:
        """Status, JSON (or text) and headers of one request."""
        from yarl import URL

        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, allow_redirects=False, **keywords) as response:
            text = await response.text()
            is_json = (
                "json" in response.content_type and text and "ndjson" not in response.content_type
            )
            import json

            return response.status, json.loads(text) if is_json else text, response.headers


async def until(condition: Any, seconds: float = 5.0) -> None:
    """Wait until `condition()` is true, asked often; TimeoutError when it never is."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@asynccontextmanager
async def serving(registry: Any, limits: Limits = LIMITS, **keywords: Any) -> AsyncIterator[Any]:
    gateway = Gateway(registry, limits=limits, **keywords)
    from services.edge.pages import pages

    pages(gateway)
    async with gateway.serving() as url, aiohttp.ClientSession() as http:
        yield gateway, url, http
