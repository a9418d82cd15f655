"""A whole shop on real sockets and real files: started for a test, its instances at will."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from google.type.money_pb2 import Money
from shop.inventory.v1 import InventoryServiceStub
from shop.notifications.v1 import NotificationServiceStub
from shop.orders.v1 import CreateOrderRequest, Order, OrderServiceStub, WatchOrderRequest
from shop.payments.v1 import PaymentServiceStub

import discovery
import mesh
from mesh.status import from_error
from mesh.store import Database, connect
from services.access import OPEN, Access
from services.bus import MakeBus
from services.inventory.domain import Money as Price
from services.inventory.domain import Product
from services.inventory.service import inventory
from services.notifications.policies import FEED
from services.notifications.service import notifications
from services.orders.policies import INVENTORY, PAYMENTS
from services.orders.service import orders
from services.payments.service import payments
from tests.store.postgresql import new_url

STOCK = (
    Product("jug", "A jug", Price("USD", 27, 500_000_000), available=20),
    Product("mug", "A mug", Price("USD", 14, 500_000_000), available=100),
    Product("teapot", "A teapot", Price("EUR", 64), available=5),
)


class Trap(grpc.aio.UnaryUnaryClientInterceptor):
    """Catches the first call of one method, before or after it happened, and never lets it go."""

    def __init__(self, method: str, *, after: bool) -> None:
        self.method = method
        self.after = after
        self.caught = asyncio.Event()

    async def intercept_unary_unary(self, continuation, details, request):
        name = details.method
        name = name if isinstance(name, str) else name.decode()
        if name.endswith(f"/{self.method}") and not self.caught.is_set():
            if self.after:
                await (await continuation(details, request))
            self.caught.set()
            await asyncio.Event().wait()
        return await continuation(details, request)


@dataclass
class Shop:
    """Four services in one process, found through a registry; "card-slow" takes `slow_card` s."""

    folder: Path
    registry: discovery.Registry
    slow_card: float = 0.2
    deadline: float = 30.0
    hold: float = 60.0
    access: Access = OPEN
    bus: MakeBus | None = None
    addresses: dict[str, str] = field(default_factory=dict)
    sort: str = "sqlite"
    databases: dict[str, str] = field(default_factory=dict)
    opened: list[Database] = field(default_factory=list)

    @property
    def commits(self) -> int:
        """How many commits all instances have made so far."""
        return sum(each.commits for each in self.opened)

    async def rows(self, service: str, sql: str) -> list[tuple]:
        """What a service's database says, read past the service."""
        async with connect(self.url(service)) as database:
            return [tuple(row) for row in await database.read(lambda tx: tx.fetch(sql))]

    def url(self, service: str) -> str:
        """Where the service's database is, which is made when it is first asked for."""
        if service not in self.databases:
            self.databases[service] = new_url(self.sort, self.folder / f"{service}.db")
        return self.databases[service]

    @asynccontextmanager
    async def database(self, service: str) -> AsyncIterator[Database]:
        """The database of an instance."""
        async with connect(self.url(service)) as database:
            self.opened.append(database)
            yield database

    @asynccontextmanager
    async def inventory(self) -> AsyncIterator[InventoryServiceStub]:
        async with (
            self.database("inventory") as database,
            inventory(
                database,
                self.registry,
                first_stock=STOCK,
                hold=self.hold,
                access=self.access,
                bus=self.bus,
            ) as server,
            server.serving() as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            self.addresses["inventory"] = address
            yield InventoryServiceStub(channel)

    @asynccontextmanager
    async def payments(self) -> AsyncIterator[PaymentServiceStub]:
        async with (
            self.database("payments") as database,
            payments(
                database, self.registry, slow_card=self.slow_card, access=self.access, bus=self.bus
            ) as server,
            server.serving() as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            self.addresses["payments"] = address
            yield PaymentServiceStub(channel)

    @asynccontextmanager
    async def orders(
        self, owner: str = "orders-1", trap: Trap | None = None
    ) -> AsyncIterator[OrderServiceStub]:
        """An instance of orders; with a trap its calls to the others go past the mesh, into it."""
        async with (
            self.database("orders") as database,
            self.channel("inventory", trap) as stock,
            self.channel("payments", trap) as till,
            orders(
                database,
                stock,
                till,
                self.registry,
                owner=owner,
                deadline=self.deadline,
                grace=0.1 if trap else 2.0,
                access=self.access,
                bus=self.bus,
            ) as server,
            server.serving() as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            self.addresses["orders"] = address
            yield OrderServiceStub(channel)

    def channel(self, service: str, trap: Trap | None) -> grpc.aio.Channel:
        if trap is None:
            policy = {"inventory": INVENTORY, "payments": PAYMENTS}[service]
            return mesh.Channel(service, policy, registry=self.registry)
        return grpc.aio.insecure_channel(self.addresses[service], interceptors=[trap])

    @asynccontextmanager
    async def notifications(self) -> AsyncIterator[NotificationServiceStub]:
        async with (
            self.database("notifications") as database,
            mesh.Channel("orders", FEED, registry=self.registry) as feed,
            notifications(
                database, feed, self.registry, access=self.access, bus=self.bus
            ) as server,
            server.serving() as address,
            grpc.aio.insecure_channel(address) as channel,
        ):
            self.addresses["notifications"] = address
            yield NotificationServiceStub(channel)


@dataclass
class Open:
    """A shop that is open: a stub for each service."""

    shop: Shop
    orders: OrderServiceStub
    inventory: InventoryServiceStub
    payments: PaymentServiceStub
    notifications: NotificationServiceStub


@asynccontextmanager
async def opened(shop: Shop) -> AsyncIterator[Open]:
    """The shop with one instance of each service."""
    async with (
        shop.inventory() as stock,
        shop.payments() as till,
        shop.orders() as book,
        shop.notifications() as post,
    ):
        yield Open(shop, book, stock, till, post)


def wanted(*items: tuple[str, int], card: str = "card", customer: str = "c-1") -> Order:
    """An order as a customer writes it."""
    return Order(
        customer_id=customer,
        items=[Order.Item(product_id=each, quantity=count) for each, count in items],
        payment_method=card,
    )


def asking(*items: tuple[str, int], wait: bool = True, key: str = "", **more) -> CreateOrderRequest:
    """A request for an order, answered at its end."""
    return CreateOrderRequest(order=wanted(*items, **more), wait=wait, request_id=key)


def cents(money: Money) -> int:
    """An amount in hundredths."""
    return money.units * 100 + money.nanos // 10_000_000


async def reached(orders: OrderServiceStub, order_id: str, status: int) -> None:
    """Wait until the order is in *status*."""
    async for order in orders.WatchOrder(WatchOrderRequest(order_id=order_id)):
        if order.status == status:
            return
    raise AssertionError("the order came to its end first")


async def refused(call) -> tuple[str, str, list[str]]:
    """Code, reason and named fields of a call that fails."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    error = from_error(failed.value)
    return error.code.name, error.reason, [field for field, _ in error.fields]
