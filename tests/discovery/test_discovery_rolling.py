"""All services of the shop restart one after the other, under load, and no call fails."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from google.type.money_pb2 import Money
from shop.inventory.v1 import InventoryServiceStub, ListProductsRequest, Product
from shop.notifications.v1 import ListNotificationsRequest, NotificationServiceStub
from shop.orders.v1 import (
    CreateOrderRequest,
    ListOrdersRequest,
    Order,
    OrderServiceStub,
)
from shop.payments.v1 import GetPaymentRequest, PaymentServiceStub

import mesh
from discovery import Health, Registry, connect

from .conftest import agent_process

SERVICES = ("orders", "payments", "inventory", "notifications")
INSTANCES = 2
CALLS = 10_000
WORKERS = 12
START_SECONDS = STOP_SECONDS = 40.0

Say = Callable[[int], Awaitable[Any]]


class Instance:
    """One process of a service, which can be told to leave and be begun anew."""

    def __init__(self, service: str, number: int, environ: Mapping[str, str]) -> None:
        self.name = service
        self._arguments = (
            *(sys.executable, "-m", f"services.{service}", "--port", "0"),
            *("--instance", str(number)),
        )
        self._environ = environ
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=os.environ | dict(self._environ),
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await self._process.stdout.readline()).decode()
        assert " listening on " in line, line

    async def stop(self) -> None:
        """Asked politely; it answers what it has begun, and exits with 0."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS):
            assert await self._process.wait() == 0

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()


@asynccontextmanager
async def shop(directory: Path, agent: str) -> AsyncIterator[list[Instance]]:
    """Every service twice, on one database each."""
    instances = [
        Instance(
            service,
            number,
            {
                "CONSUL_HTTP_ADDR": agent,
                "DATABASE_URL": f"sqlite:///{directory}/{service}.db",
                "MALLOC_ARENA_MAX": "2",
            },
        )
        for number in range(1, INSTANCES + 1)
        for service in SERVICES
    ]
    try:
        for first in (instances[: len(SERVICES)], instances[len(SERVICES) :]):
            await asyncio.gather(*(one.start() for one in first))
        yield instances
    finally:
        await asyncio.gather(*(one.end() for one in instances))


async def settled(registry: Registry, service: str) -> None:
    """All instances are there, and well."""
    async with asyncio.timeout(START_SECONDS), aclosing(registry.watch(service)) as watch:
        async for snapshot in watch:
            well = [one for one in snapshot.endpoints if one.health is Health.PASSING]
            if len(well) == len(snapshot.endpoints) == INSTANCES:
                return


class Load:
    """Calls of all kinds, over and over; `failed` says what went wrong with which."""

    def __init__(self, channels: Mapping[str, grpc.aio.Channel], run: int) -> None:
        orders, inventory = channels["orders"], channels["inventory"]
        self._orders = OrderServiceStub(orders)
        self._inventory = InventoryServiceStub(inventory)
        self._payments = PaymentServiceStub(channels["payments"])
        self._notifications = NotificationServiceStub(channels["notifications"])
        self._run = run
        self.count = 0
        self.failed: list[str] = []

    async def work(self, worker: int, enough: asyncio.Event) -> None:
        kinds: list[Say] = [
            lambda _: self._orders.ListOrders(ListOrdersRequest(page_size=2), timeout=5.0),
            lambda _: self._inventory.ListProducts(ListProductsRequest(page_size=2), timeout=5.0),
            lambda _: self._notifications.ListNotifications(
                ListNotificationsRequest(customer_id="c", page_size=2), timeout=5.0
            ),
            self._missing_payment,
            *([self._order] if worker == 0 else []),
        ]
        number = worker
        while self.count < CALLS or not enough.is_set():
            number += 1
            say = kinds[number % len(kinds)]
            try:
                await say(number)
            except grpc.aio.AioRpcError as error:
                self.failed.append(f"{error.code().name}: {error.details()}")
            self.count += 1

    async def _missing_payment(self, number: int) -> None:
        """Nobody paid that, and that is the answer."""
        try:
            await self._payments.GetPayment(GetPaymentRequest(payment_id="none"), timeout=5.0)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise

    async def _order(self, number: int) -> None:
        request = CreateOrderRequest(
            order=Order(
                customer_id="c",
                items=[Order.Item(product_id="tea", quantity=1)],
                payment_method="card",
            ),
            request_id=f"00000000-0000-4000-8000-{self._run:04}{number:08}",
        )
        await self._orders.CreateOrder(request, timeout=5.0)

    async def stock(self) -> None:
        async def products() -> AsyncIterator[Product]:
            yield Product(
                product_id="tea",
                title="Tea",
                price=Money(currency_code="EUR", units=1),
                available=1_000_000,
            )

        await self._inventory.ImportProducts(products(), timeout=10.0)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("run", range(5))
async def test_no_call_fails_while_all_services_restart(tmp_path: Path, run: int) -> None:
    async with AsyncExitStack() as stack:
        _, port = await stack.enter_async_context(agent_process())
        agent = f"127.0.0.1:{port}"
        instances = await stack.enter_async_context(shop(tmp_path, agent))
        registry = await stack.enter_async_context(connect(f"consul://{agent}"))
        for service in SERVICES:
            await settled(registry, service)
        channels = {
            service: await stack.enter_async_context(mesh.Channel(service, registry=registry))
            for service in SERVICES
        }
        load, enough = Load(channels, run), asyncio.Event()
        await load.stock()
        workers = [asyncio.create_task(load.work(number, enough)) for number in range(WORKERS)]
        try:
            for instance in instances:
                await instance.stop()
                await instance.start()
                await settled(registry, instance.name)
        finally:
            enough.set()
            await asyncio.gather(*workers)

    assert load.failed == []
    assert load.count >= CALLS
