"""
The chapter of the storm: 500 calls at 50 a second while instances are killed with -9.

Only calls that may be repeated: reads, and orders placed under a key of their own; half of them
over REST, half by stubs, of every service.  Calls start on time whatever became of those before
(an open loop), and not one of them may fail.  The summary is left out: its branches have one second
by contract, which a busy machine may need for other things.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import aiohttp
import grpc
from shop.inventory.v1 import GetProductRequest, InventoryServiceStub
from shop.orders.v1 import CreateOrderRequest, GetOrderRequest, Order, OrderServiceStub
from shop.payments.v1 import GetOrderPaymentRequest, PaymentServiceStub

from scripts.stage import healthy
from scripts.stage.running import registered
from scripts.story.visit import Visit, Wrong, basket, expect

CALLS = 500
PER_SECOND = 50
# Seconds after the start, and who is killed then; each is back before the next goes.
KILLS = ((1.5, "orders-1"), (4.5, "payments-1"), (7.5, "inventory-1"))
BACK_SECONDS = 30.0


async def storm(visit: Visit) -> str:
    caller = Caller(visit)
    before = {name: visit.demo.supervisor.children[name].restarts for _, name in KILLS}
    killing = asyncio.create_task(_kill(visit))
    began = time.monotonic()
    calls = []
    for number in range(CALLS):
        await asyncio.sleep(began + number / PER_SECOND - time.monotonic())
        calls.append(asyncio.create_task(caller.call(number)))
    await asyncio.gather(*calls)
    await killing
    await _back(visit)
    failed = "; ".join(f"{count}x {why}" for why, count in caller.failed.most_common(5))
    expect(not failed, f"{caller.failed.total()} of {CALLS} calls failed: {failed}")
    for name, restarts in before.items():
        again = visit.demo.supervisor.children[name].restarts
        expect(again == restarts + 1, f"{name} was started {again - restarts} times")
    times = sorted(caller.seconds)
    middle, late = times[len(times) // 2] * 1000, times[len(times) * 99 // 100] * 1000
    return (
        f"{CALLS} calls, {len(KILLS)} instances killed and back, 0 failed;"
        f" median {middle:.0f} ms, 99 % within {late:.0f} ms"
    )


async def _kill(visit: Visit) -> None:
    began = time.monotonic()
    for second, name in KILLS:
        await asyncio.sleep(began + second - time.monotonic())
        visit.demo.kill(name)


async def _back(visit: Visit) -> None:
    """Wait until the registry finds every instance healthy where it is now."""
    children = visit.demo.supervisor.children
    try:
        async with asyncio.timeout(BACK_SECONDS):
            for child in children.values():
                await child.listening.wait()
            wanted = registered(visit.demo.supervisor)
            await healthy.instances(visit.demo.registry.environment, wanted)
    except TimeoutError:
        raise Wrong(f"not all killed instances were healthy again in {BACK_SECONDS} s") from None


class Caller:
    """Makes the calls, keeps how long each took and why any failed."""

    def __init__(self, visit: Visit) -> None:
        self.failed: Counter[str] = Counter()
        self.seconds: list[float] = []
        self._visit = visit
        self._orders = OrderServiceStub(visit.orders)
        self._payments = PaymentServiceStub(visit.payments)
        self._inventory = InventoryServiceStub(visit.inventory)
        self._placed: list[str] = []

    async def call(self, number: int) -> None:
        began = time.monotonic()
        try:
            await self._one(number)
        except grpc.aio.AioRpcError as error:
            self.failed[f"{error.code().name} {error.details()}"] += 1
        except (Wrong, aiohttp.ClientError, TimeoutError) as error:
            self.failed[f"{type(error).__name__} {error}"] += 1
        self.seconds.append(time.monotonic() - began)

    async def _one(self, number: int) -> None:
        key = f"storm-{number}"
        visit, bought = self._visit, self._visit.bought
        match number % 8:
            case 0:
                placed = await visit.post("/v1/orders", basket(), key=key)
                self._placed.append(placed["orderId"])
            case 1:
                item = Order.Item(product_id="spoon", quantity=1)
                wanted = Order(customer_id="linus", items=[item], payment_method="card")
                request = CreateOrderRequest(order=wanted, request_id=key)
                self._placed.append((await self._orders.CreateOrder(request)).order_id)
            case 2:
                await visit.get(f"/v1/orders/{bought}/payment")
            case 3:
                await self._payments.GetOrderPayment(GetOrderPaymentRequest(order_id=bought))
            case 4:
                await visit.get(f"/v1/orders/{bought}/reservation")
            case 5:
                await self._inventory.GetProduct(GetProductRequest(product_id="mug"))
            case 6:
                await visit.get("/v1/orders", page_size=10)
            case _:
                order_id = self._placed[-1] if self._placed else bought
                await self._orders.GetOrder(GetOrderRequest(order_id=order_id))
