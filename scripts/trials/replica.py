"""
A server to do bad things to: `python -m scripts.trials.replica --name orders --port 50051 ...`.

    orders     GetOrder, which may be repeated, and CreateOrder, which without a key may not
    payments   GetOrderPayment

The reply's note names the replica.  With `--asks payments` GetOrder first asks that service, by
the policy that the trial's other channels follow.  Its mood and its count are on its panel.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from shop.orders.v1 import CreateOrderRequest, GetOrderRequest, Order, OrderServiceServicer
from shop.payments.v1 import (
    GetOrderPaymentRequest,
    Payment,
    PaymentServiceServicer,
    PaymentServiceStub,
)

import mesh
from mesh.errors import Code, StatusError
from mesh.server.limits import Limits
from scripts.trials.panel import Mood, Panel
from scripts.trials.policies import POLICIES

REFUSAL = StatusError(Code.UNAVAILABLE, "out of order", reason="OUTAGE", domain="trials")


class Work:
    """What every call costs here, and what becomes of it."""

    def __init__(self, name: str, panel: Panel, seconds: float) -> None:
        self.name = name
        self._panel = panel
        self._seconds = seconds

    async def do(self) -> None:
        self._panel.count()
        mood = self._panel.mood
        if mood is Mood.REFUSE:
            raise REFUSAL
        if mood is Mood.HANG:
            await asyncio.Event().wait()
        await asyncio.sleep(self._seconds)


class Orders(OrderServiceServicer):
    def __init__(self, work: Work, payments: PaymentServiceStub | None) -> None:
        self._work = work
        self._payments: Any = payments

    async def WatchOrder(self, request: Any, context: object) -> AsyncIterator[Order]:
        yield Order(order_id=request.order_id, note=self._work.name)
        await self._work.do()

    async def GetOrder(self, request: GetOrderRequest, context: object) -> Order:
        await self._work.do()
        if self._payments is not None:
            await self._payments.GetOrderPayment(GetOrderPaymentRequest(order_id=request.order_id))
        return Order(order_id=request.order_id, note=self._work.name)

    async def CreateOrder(self, request: CreateOrderRequest, context: object) -> Order:
        await self._work.do()
        return Order(order_id="o-1", note=self._work.name)


class Payments(PaymentServiceServicer):
    def __init__(self, work: Work) -> None:
        self._work = work

    async def GetOrderPayment(self, request: GetOrderPaymentRequest, context: object) -> Payment:
        await self._work.do()
        return Payment(payment_id=self._work.name, order_id=request.order_id)


async def serve(asked: argparse.Namespace) -> None:
    name = f"{asked.name}-{asked.instance}"
    async with AsyncExitStack() as stack:
        work = Work(name, stack.enter_context(Panel(asked.panel)), asked.seconds)
        stub: Any = None
        if asked.asks:
            channel = mesh.Channel(asked.asks, POLICIES[asked.policy])
            stub = PaymentServiceStub(await stack.enter_async_context(channel))
        servicer: object = Orders(work, stub)  # type: ignore[abstract]  # the rest: UNIMPLEMENTED
        if asked.name == "payments":
            servicer = Payments(work)  # type: ignore[abstract]
        limits = Limits(
            max_connection_age=asked.connection_age, max_connection_age_grace=asked.age_grace
        )
        await mesh.Server(asked.name, [servicer], limits=limits).run(
            port=asked.port,
            instance=name,
            drain_seconds=asked.drain,
            started=lambda address: print(f"{name} listening on {address}", flush=True),
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.trials.replica", description=__doc__)
    parser.add_argument("--name", choices=("orders", "payments"), default="orders")
    parser.add_argument("--instance", default="1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--panel", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=0.003, help="of work a call")
    parser.add_argument("--asks", default="", help="the service that GetOrder needs")
    parser.add_argument("--policy", choices=sorted(POLICIES), default="production")
    parser.add_argument("--drain", type=float, default=1.5)
    parser.add_argument("--connection-age", type=float, default=1800.0)
    parser.add_argument("--age-grace", type=float, default=60.0)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
