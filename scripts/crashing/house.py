"""
The smallest shop there is: four services, two of them enough for an order, and a list for registry.

The victim is a process of its own; the other services run in this one, on real sockets and files.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import discovery
import mesh
from mesh.store import connect
from scripts.stage.preflight import is_free
from services.audit.reading import Shop
from services.audit.service import shop
from services.inventory.service import inventory
from services.notifications.policies import FEED
from services.notifications.service import notifications
from services.orders.policies import INVENTORY, PAYMENTS
from services.orders.service import orders
from services.payments.service import payments

SERVICES = ("orders", "payments", "inventory", "notifications")
HOST = "127.0.0.1"
# Where no system takes a port for an outgoing call while its owner is dead for a moment.
PORTS = range(15_000, 30_000)
# "card-slow" takes this long here, in seconds: long enough to be cancelled meanwhile.
SLOW_CARD = 0.5
GRACE_SECONDS = 0.1


def own_host() -> str:
    """A loopback address of this process alone (Linux): others look for ports at HOST."""
    number = os.getpid()
    return f"127.{64 + (number >> 16) % 64}.{(number >> 8) % 256}.{number % 256}"


def ports(host: str = HOST) -> dict[str, int]:
    """A free port for each service."""
    chosen: dict[str, int] = {}
    while len(chosen) < len(SERVICES):
        port = random.choice(PORTS)
        if port not in chosen.values() and is_free(port, host):
            chosen[SERVICES[len(chosen)]] = port
    return chosen


def listed(folder: Path, places: Mapping[str, int], host: str = HOST) -> str:
    """The URL of a registry that knows where each service will be."""
    servers = {service: [f"{host}:{port}"] for service, port in places.items()}
    (folder / "servers.json").write_text(json.dumps(servers))
    return f"static://{folder}/servers.json"


def database(folder: Path, service: str) -> str:
    return f"sqlite:///{folder}/{service}.db"


@asynccontextmanager
async def others(
    folder: Path, url: str, host: str, places: Mapping[str, int], victim: str
) -> AsyncIterator[Shop]:
    """Every service but the victim, and a way to read the books of all."""
    async with AsyncExitStack() as stack:
        registry = await stack.enter_async_context(discovery.connect(url))
        for service in SERVICES:
            if service != victim:
                await stack.enter_async_context(
                    _service(service, folder, registry, host, places[service])
                )
        yield await stack.enter_async_context(shop(registry))


@asynccontextmanager
async def _service(
    service: str, folder: Path, registry: discovery.Registry, host: str, port: int
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        kept = await enter(connect(database(folder, service)))
        match service:
            case "orders":
                stock = await enter(mesh.Channel("inventory", INVENTORY, registry=registry))
                till = await enter(mesh.Channel("payments", PAYMENTS, registry=registry))
                server = await enter(orders(kept, stock, till, registry))
            case "payments":
                server = await enter(payments(kept, registry, slow_card=SLOW_CARD))
            case "inventory":
                server = await enter(inventory(kept, registry))
            case _:
                feed = await enter(mesh.Channel("orders", FEED, registry=registry))
                server = await enter(notifications(kept, feed, registry))
        await enter(server.serving(host, port, grace=GRACE_SECONDS))
        yield
