"""
The stage of a trial: three replicas of `orders`, and the contenders that ask them.

    mesh     mesh.Channel, by PRODUCTION         through the registry, or over links
    plain    grpcio's round_robin                over the same addresses, which never change
    tuned    the same with grpcio's own retries  three attempts on UNAVAILABLE, as its docs advise

All ask the same servers in the same seconds, each at its own steady rate.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import grpc
import grpc.aio
from shop.orders.v1 import CreateOrderRequest, GetOrderRequest, Order, OrderServiceStub

import discovery
import mesh
from mesh.testing.network import Link, Network
from scripts.stage.preflight import free_port
from scripts.trials.load import Ask, Load
from scripts.trials.panel import Panel
from scripts.trials.policies import PRODUCTION
from scripts.trials.process import Server
from scripts.trials.witness import Witness

RATE = 150.0
REPLICAS = 3
# What callers give a call: with it even a hung server holds nobody for ever.
PATIENCE = 2.0
ROUND_ROBIN: Any = [{"round_robin": {}}]
NATIVE_RETRIES = {
    "name": [{}],
    "retryPolicy": {
        "maxAttempts": 3,
        "initialBackoff": "0.05s",
        "maxBackoff": "1s",
        "backoffMultiplier": 2,
        "retryableStatusCodes": ["UNAVAILABLE"],
    },
}
CONTENDERS = ("mesh", "plain", "tuned")
SERVICE_CONFIGS: dict[str, dict[str, Any]] = {
    "plain": {"loadBalancingConfig": ROUND_ROBIN},
    "tuned": {"loadBalancingConfig": ROUND_ROBIN, "methodConfig": [NATIVE_RETRIES]},
}


@dataclass(frozen=True, slots=True)
class Replica:
    """One server process, its panel, the link before it, if any, and its name in replies."""

    name: str
    server: Server
    panel: Panel
    link: Link | None = None
    # By what name the mesh knows it.
    endpoint: str = ""


@dataclass(slots=True)
class Stage:
    """What a trial acts on."""

    replicas: list[Replica]
    loads: dict[str, Load]
    witness: Witness
    channel: mesh.Channel
    notes: dict[str, str] = field(default_factory=dict)
    # From when until when a replica hung without the mesh having left it out.
    hung: tuple[float, float] = (0.0, 0.0)

    @property
    def mesh(self) -> Load:
        return self.loads["mesh"]

    async def until(self, true: Callable[[], object], seconds: float) -> float | None:
        """How long it took to come true; None when it did not within `seconds`."""
        began = monotonic()
        while not true():
            if monotonic() - began > seconds:
                return None
            await asyncio.sleep(0.02)
        return monotonic() - began

    def stall(self, since: float, until: float) -> float:
        """The longest time in which nobody answered the mesh: what the host itself stood still."""
        ends = sorted(answer.began + answer.seconds for answer in self.mesh.answers)
        within = [since, *(end for end in ends if since < end < until), until]
        return max(after - before for before, after in pairwise(within))

    async def answering(self, replica: Replica, seconds: float = 30.0) -> float | None:
        """How long from now until the mesh has an answer of this replica."""
        now = monotonic()
        return await self.until(lambda: self.mesh.answered_by(replica.name, now), seconds)


@asynccontextmanager
async def agent() -> AsyncIterator[str]:
    """An embedded agent in a process of its own; its URL."""
    server = Server("discovery.agent", "--port=0", "--log-level=warning")
    try:
        yield f"consul://{await server.start()}"
    finally:
        await server.stop()


@asynccontextmanager
async def staged(
    *,
    linked: bool = False,
    watched: bool = True,
    contenders: Sequence[str] = CONTENDERS[:2],
    rate: float = RATE,
    policy: mesh.Policy = PRODUCTION,
    writes: bool = False,
    options: Sequence[str] = (),
) -> AsyncIterator[Stage]:
    """
    Three replicas and a load on them by each contender; `linked`, a faulty network lies between.

    Not `watched`, the mesh knows addresses only, as the others do: no registry checks them for it.
    `writes` calls CreateOrder without a key, which nobody may repeat, in place of GetOrder.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="trials-")))
        watched = watched and not linked
        url = await stack.enter_async_context(agent()) if watched else "memory://trials"
        network = await stack.enter_async_context(Network())
        replicas = [
            await _replica(
                stack, folder, url, network if linked else None, number, watched, options
            )
            for number in range(1, REPLICAS + 1)
        ]
        reached = ",".join(r.link.address if r.link else r.server.address for r in replicas)
        registry = await stack.enter_async_context(
            discovery.connect(url if watched else f"static://{reached}")
        )
        witness = Witness()
        channel = await stack.enter_async_context(
            mesh.Channel("orders", policy, registry=registry, emit=witness)
        )
        loads: dict[str, Load] = {}
        for name in contenders:
            asking: Any = channel
            if name != "mesh":
                asking = await stack.enter_async_context(native(name, reached))
            await asyncio.wait_for(asking.channel_ready(), 10)
            ask = _writing(asking) if writes else _reading(asking)
            loads[name] = await stack.enter_async_context(Load(ask, rate))
        stage = Stage(replicas, loads, witness, channel)
        for replica in replicas:
            if await stage.answering(replica) is None:
                raise TimeoutError(f"{replica.name} never answered")
        yield stage


async def _replica(
    stack: AsyncExitStack,
    folder: Path,
    url: str,
    network: Network | None,
    number: int,
    watched: bool,
    options: Sequence[str],
) -> Replica:
    name = f"orders-{number}"
    panel = stack.enter_context(Panel(folder / name))
    server = Server(
        "scripts.trials.replica",
        f"--instance={number}",
        f"--port={free_port()}",
        f"--panel={folder / name}",
        *options,
        environment={"MESH_REGISTRY": url},
    )
    stack.push_async_callback(server.stop)
    address = await server.start()
    link = network.link(address) if network is not None else None
    known = name if watched else link.address if link is not None else address
    return Replica(name, server, panel, link, known)


def native(name: str, addresses: str) -> grpc.aio.Channel:
    """A channel of grpcio's own to "host:port,host:port"."""
    config = json.dumps(SERVICE_CONFIGS[name])
    options = [("grpc.service_config", config), ("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.insecure_channel(f"ipv4:{addresses}", options=options)


def _reading(channel: grpc.aio.Channel) -> Ask:
    stub: Any = OrderServiceStub(channel)
    request = GetOrderRequest(order_id="o-1")

    async def ask() -> str:
        order: Order = await stub.GetOrder(request, timeout=PATIENCE)
        return order.note

    return ask


def _writing(channel: grpc.aio.Channel) -> Ask:
    stub: Any = OrderServiceStub(channel)
    order = Order(customer_id="ada", items=[Order.Item(product_id="mug", quantity=1)])
    request = CreateOrderRequest(order=order)

    async def ask() -> str:
        created: Order = await stub.CreateOrder(request, timeout=PATIENCE)
        return created.note

    return ask
