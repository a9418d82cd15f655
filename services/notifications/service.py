"""Everything an instance of notifications is made of, from a database and a channel."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import grpc

import discovery
from mesh.events import Event
from mesh.events.feed import follow
from mesh.identity import speaking
from mesh.server import Server
from mesh.server.dead_letters import DeadLetterAdmin
from mesh.store import Database, Transaction, connect, migrations
from mesh.telemetry.figures import Figures
from services.access import OPEN, Access
from services.background import beside
from services.bus import MakeBus, subscribed
from services.notifications import store
from services.notifications.events import notification
from services.notifications.handlers import Notifications
from services.notifications.policies import FEED
from services.notifications.servicer import NotificationServicer
from services.process import CONTRACT, WAITING, Process


@asynccontextmanager
async def notifications(
    database: Database,
    orders: grpc.aio.Channel,
    registry: discovery.Registry | None = None,
    *,
    access: Access = OPEN,
    bus: MakeBus | None = None,
    figures: Figures | None = None,
) -> AsyncIterator[Server]:
    """A notifications server on an entered database, told by the feed of *orders* or by a bus."""
    await database.migrate("notifications", migrations("services.notifications"))

    async def write(tx: Transaction, event: Event) -> None:
        written = notification(event.event_id, event.event_type, event.payload, time.time_ns())
        if written is not None:
            store.insert(tx, written)

    async with AsyncExitStack() as stack:
        if bus is None:
            with speaking(access.saying("notifications")):
                following = follow(
                    orders, database, consumer="notifications", source="orders", handler=write
                )
                await stack.enter_async_context(beside(following))
        else:
            await stack.enter_async_context(
                subscribed(
                    bus,
                    database,
                    consumer="notifications",
                    source="orders",
                    topic="order",
                    handler=write,
                )
            )
        yield Server(
            "notifications",
            [NotificationServicer(Notifications(database)), DeadLetterAdmin(database)],
            registry=registry,
            limits=WAITING,
            interceptors=access.interceptors(),
            descriptors=CONTRACT,
            figures=figures,
        )


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    async with (
        discovery.from_environment() as registry,
        connect(process.database) as database,
        process.channel("orders", FEED, registry) as orders,
        notifications(
            database,
            orders,
            registry,
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
