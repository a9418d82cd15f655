"""Everything an instance of inventory is made of, from a database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import discovery
from mesh.events.feed import Feed
from mesh.events.outbox import Outbox
from mesh.server import Server
from mesh.server.dead_letters import DeadLetterAdmin
from mesh.server.idempotency import Idempotency
from mesh.store import Database, connect, migrations
from services.access import OPEN, Access
from services.background import beside
from services.bus import MakeBus, relaying
from services.inventory.catalogue import FIRST_STOCK
from services.inventory.domain import Product
from services.inventory.handlers import Inventory
from services.inventory.holding import HOLD_SECONDS, expire
from services.inventory.servicer import InventoryServicer
from services.process import CONTRACT, Process


@asynccontextmanager
async def inventory(
    database: Database,
    registry: discovery.Registry | None = None,
    *,
    first_stock: Sequence[Product] = FIRST_STOCK,
    hold: float = HOLD_SECONDS,
    access: Access = OPEN,
    bus: MakeBus | None = None,
) -> AsyncIterator[Server]:
    """
    An inventory server on an entered database; `first_stock` goes into an empty catalogue.

    What is held for longer than `hold` seconds goes back to the shelf.
    """
    await database.migrate("inventory", migrations("services.inventory"))
    outbox = Outbox(database)
    handlers = Inventory(database, outbox)
    await handlers.stock_once(first_stock)
    async with beside(expire(handlers, hold)), relaying(bus, outbox, "inventory"):
        yield Server(
            "inventory",
            [InventoryServicer(handlers), Feed(outbox), DeadLetterAdmin(database)],
            registry=registry,
            interceptors=[*access.interceptors(), Idempotency(database)],
            descriptors=CONTRACT,
        )


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    async with (
        discovery.from_environment() as registry,
        connect(process.database) as database,
        inventory(database, registry, access=process.access, bus=process.bus) as server,
    ):
        await server.run(
            process.host,
            process.port,
            instance=process.instance,
            started=process.ready,
            metrics=process.metrics,
        )
