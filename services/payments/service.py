"""Everything an instance of payments is made of, from a database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discovery
from mesh.events.feed import Feed
from mesh.events.outbox import Outbox
from mesh.server import Server
from mesh.server.dead_letters import DeadLetterAdmin
from mesh.server.idempotency import Idempotency
from mesh.store import Database, connect, migrations
from services.access import OPEN, Access
from services.bus import MakeBus, relaying
from services.payments.cards import CardNetwork
from services.payments.handlers import Payments
from services.payments.servicer import PaymentServicer
from services.process import CONTRACT, WAITING, Process


@asynccontextmanager
async def payments(
    database: Database,
    registry: discovery.Registry | None = None,
    *,
    slow_card: float = 2.0,
    access: Access = OPEN,
    bus: MakeBus | None = None,
) -> AsyncIterator[Server]:
    """A payments server on an entered database; `slow_card` is how long "card-slow" takes, in s."""
    await database.migrate("payments", migrations("services.payments"))
    outbox = Outbox(database)
    handlers = Payments(database, outbox, CardNetwork(slow_card))
    async with relaying(bus, outbox, "payments"):
        yield Server(
            "payments",
            [PaymentServicer(handlers), Feed(outbox), DeadLetterAdmin(database)],
            registry=registry,
            limits=WAITING,
            interceptors=[*access.interceptors(), Idempotency(database)],
            descriptors=CONTRACT,
        )


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    async with (
        discovery.from_environment() as registry,
        connect(process.database) as database,
        payments(database, registry, access=process.access, bus=process.bus) as server,
    ):
        await server.run(
            process.host,
            process.port,
            instance=process.instance,
            started=process.ready,
            metrics=process.metrics,
        )
