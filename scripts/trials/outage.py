"""
A total outage of the last service: what retries add to it, and how soon all is well again.

    one hop      callers -> payments                       three replicas
    three hops   callers -> gateway -> orders -> payments   REST in front, one replica each

Amplification is how many attempts reached the last service for each call that callers made, while
it answered nothing but UNAVAILABLE, or nothing at all.  1.0 is no retry at all; each layer that
retries without a budget would multiply it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import aiohttp
import grpc.aio
from shop.payments.v1 import GetOrderPaymentRequest, Payment, PaymentServiceStub

import discovery
import mesh
from gateway import Gateway
from scripts.stage.preflight import free_port
from scripts.trials.load import Ask, Load
from scripts.trials.panel import Mood, Panel
from scripts.trials.policies import POLICIES
from scripts.trials.process import Server
from scripts.trials.stage import PATIENCE, RATE, agent, native

QUIET = 1.0
# How long after the outage calls are still made, and what must be well again by then.
AFTER = 8.0
GOOD = 0.95
WINDOW = 1.0


@dataclass(frozen=True, slots=True)
class Outage:
    """What became of the calls that one contender made during and after an outage."""

    who: str
    hops: int
    mood: Mood
    calls: int
    attempts: int
    # Seconds until GOOD of the calls of a whole WINDOW went well; None: not within AFTER.
    recovered: float | None

    @property
    def amplification(self) -> float:
        return self.attempts / self.calls


@asynccontextmanager
async def _payments(replicas: int) -> AsyncIterator[tuple[str, list[Server], list[Panel]]]:
    """Replicas of payments, and the registry where they are."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="trials-")))
        url = await stack.enter_async_context(agent())
        panels = [
            stack.enter_context(Panel(folder / f"payments-{number}")) for number in range(replicas)
        ]
        servers = [
            await _server(stack, url, folder, "payments", number) for number in range(replicas)
        ]
        yield url, servers, panels


async def _server(
    stack: AsyncExitStack, url: str, folder: Path, name: str, number: int, *options: str
) -> Server:
    server = Server(
        "scripts.trials.replica",
        *(f"--name={name}", f"--instance={number}", f"--port={free_port()}"),
        f"--panel={folder / f'{name}-{number}'}",
        "--drain=0.1",
        *options,
        environment={"MESH_REGISTRY": url},
    )
    stack.push_async_callback(server.stop)
    await server.start()
    return server


async def one_hop(
    who: str = "production", mood: Mood = Mood.REFUSE, seconds: float = 6.0
) -> Outage:
    """Callers ask three replicas by the policy named `who`, or by plain or tuned grpcio."""
    async with _payments(3) as (url, servers, panels), AsyncExitStack() as stack:
        channel: Any
        if who in POLICIES:
            registry = await stack.enter_async_context(discovery.connect(url))
            channel = mesh.Channel("payments", POLICIES[who], registry=registry)
        else:
            channel = native(who, ",".join(server.address for server in servers))
        channel = await stack.enter_async_context(channel)
        await asyncio.wait_for(channel.channel_ready(), 10)
        load = await stack.enter_async_context(Load(_asking(channel), RATE))
        return await _suffer(load, panels, who, 1, mood, seconds)


async def three_hops(
    who: str = "production", mood: Mood = Mood.REFUSE, seconds: float = 6.0
) -> Outage:
    """Callers ask a gateway over HTTP, it asks orders, orders ask payments, all by one policy."""
    async with _payments(1) as (url, _, panels), AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="trials-")))
        await _server(stack, url, folder, "orders", 1, "--asks=payments", f"--policy={who}")
        registry = await stack.enter_async_context(discovery.connect(url))
        gateway = Gateway(registry, POLICIES[who])
        address = await stack.enter_async_context(gateway.serving(port=0))
        session = await stack.enter_async_context(aiohttp.ClientSession())
        ask = _browsing(session, address)
        await _works(ask)
        load = await stack.enter_async_context(Load(ask, RATE))
        return await _suffer(load, panels, who, 3, mood, seconds)


async def _suffer(
    load: Load, panels: Sequence[Panel], who: str, hops: int, mood: Mood, seconds: float
) -> Outage:
    """Quiet, outage, quiet; while it lasts calls and attempts are counted."""
    await asyncio.sleep(QUIET)
    for panel in panels:
        panel.mood = mood
    sent, reached = load.sent, _reached(panels)
    await asyncio.sleep(seconds)
    calls, attempts = load.sent - sent, _reached(panels) - reached
    for panel in panels:
        panel.mood = Mood.ANSWER
    ended = monotonic()
    recovered = None
    while recovered is None and monotonic() < ended + AFTER + PATIENCE:
        await asyncio.sleep(WINDOW / 4)
        recovered = recovery(load, ended)
    return Outage(who, hops, mood, calls, attempts, recovered)


def recovery(load: Load, ended: float) -> float | None:
    """After how many seconds goodput was back for a whole window, among calls that are over."""
    for tenth in range(int(AFTER * 10)):
        since = ended + tenth / 10
        answers = load.between(since, since + WINDOW)
        good = sum(1 for answer in answers if answer.code == "OK")
        if since + WINDOW <= monotonic() and answers and good >= GOOD * len(answers):
            return tenth / 10
    return None


def _reached(panels: Sequence[Panel]) -> int:
    return sum(panel.reached for panel in panels)


def _asking(channel: grpc.aio.Channel) -> Ask:
    stub: Any = PaymentServiceStub(channel)
    request = GetOrderPaymentRequest(order_id="o-1")

    async def ask() -> str:
        payment: Payment = await stub.GetOrderPayment(request, timeout=PATIENCE)
        return payment.payment_id

    return ask


def _browsing(session: aiohttp.ClientSession, address: str) -> Ask:
    async def ask() -> str:
        async with session.get(f"{address}/v1/orders/o-1") as response:
            response.raise_for_status()
            return str((await response.json())["note"])

    return ask


async def _works(ask: Ask, seconds: float = 20.0) -> None:
    """Wait until the gateway knows its routes and a call goes all the way."""
    async with asyncio.timeout(seconds):
        while True:
            try:
                await ask()
            except aiohttp.ClientError:
                await asyncio.sleep(0.1)
            else:
                return
