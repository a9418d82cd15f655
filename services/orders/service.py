"""Everything an instance of orders is made of, from a database and two channels."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

import discovery
from mesh.events.feed import Feed
from mesh.events.outbox import Outbox
from mesh.saga import SagaRunner
from mesh.server import Server
from mesh.server.dead_letters import DeadLetterAdmin
from mesh.server.idempotency import Idempotency
from mesh.server.sagas import SagaAdmin
from mesh.store import Database, connect, migrations
from mesh.telemetry.figures import Figures
from services.access import OPEN, Access
from services.background import beside
from services.bus import MakeBus, relaying
from services.orders.clients import Stock, Till
from services.orders.handlers import Orders
from services.orders.place_order import DEADLINE, place_order
from services.orders.policies import INVENTORY, PAYMENTS
from services.orders.servicer import OrderServicer
from services.orders.watching import Watching
from services.process import CONTRACT, WAITING, Process

# Orders seen through at once by an instance: most of them wait for a card, and a slow one must
# not keep the quick ones waiting.
AT_ONCE = 256


@asynccontextmanager
async def orders(
    database: Database,
    inventory: grpc.aio.Channel,
    payments: grpc.aio.Channel,
    registry: discovery.Registry | None = None,
    *,
    owner: str = "orders",
    deadline: float = DEADLINE,
    grace: float = 2.0,
    access: Access = OPEN,
    bus: MakeBus | None = None,
    figures: Figures | None = None,
) -> AsyncIterator[Server]:
    """
    An orders server on an entered database; `owner` names it in the saga's journal.

    An order that is not through after `deadline` turns back; when the server leaves, calls of the
    saga get `grace` to be answered.  Both in seconds.
    """
    await database.migrate("orders", migrations("services.orders"))
    outbox = Outbox(database)
    saga = place_order(
        database, outbox, Stock(inventory), Till(payments), deadline=deadline, access=access
    )
    watching = Watching(database)
    async with (
        beside(watching.follow()),
        relaying(bus, outbox, "orders"),
        SagaRunner(database, [saga], owner=owner, limit=AT_ONCE, grace=grace) as runner,
    ):
        yield Server(
            "orders",
            [
                OrderServicer(Orders(database, outbox, runner, watching)),
                Feed(outbox),
                SagaAdmin(database, runner),
                DeadLetterAdmin(database),
            ],
            registry=registry,
            limits=WAITING,
            interceptors=[*access.interceptors(), Idempotency(database)],
            descriptors=CONTRACT,
            figures=figures,
        )


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    async with (
        discovery.from_environment() as registry,
        connect(process.database) as database,
        process.channel("inventory", INVENTORY, registry) as inventory,
        process.channel("payments", PAYMENTS, registry) as payments,
        orders(
            database,
            inventory,
            payments,
            registry,
            owner=process.instance,
            access=process.access,
            bus=process.bus,
            figures=process.figures,
        ) as server,
    ):
        await server.run(
            process.host,
            process.port,
            instance=process.instance,
            started=process.ready,
            metrics=process.metrics,
        )
