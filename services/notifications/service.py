"""Everything an instance of notifications is made of, from a database and a channel."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
from mesh.events.feed import follow
from proxyless.events.v1 import FeedEvent

import discovery
import mesh
from mesh.server import Server
from mesh.store import Database, Transaction, connect
from services.notifications import store
from services.notifications.events import notification
from services.notifications.handlers import Notifications
from services.notifications.servicer import NotificationServicer
from services.process import CONTRACT, Process


@asynccontextmanager
async def notifications(
    database: Database, orders: grpc.aio.Channel, registry: discovery.Registry | None = None
) -> AsyncIterator[Server]:
    """A notifications server on an entered database, following the events of *orders*."""
    await database.migrate("notifications", store.MIGRATIONS)

    async def write(tx: Transaction, event: FeedEvent) -> None:
        written = notification(event.event_id, event.event_type, event.payload, time.time_ns())
        if written is not None:
            await store.insert(tx, written)

    async with asyncio.TaskGroup() as tasks:
        following = tasks.create_task(
            follow(orders, database, consumer="notifications", source="orders", handler=write)
        )
        try:
            yield Server(
                "notifications",
                [NotificationServicer(Notifications(database))],
                registry=registry,
                descriptors=CONTRACT,
            )
        finally:
            following.cancel()


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    async with (
        discovery.from_environment() as registry,
        connect(process.database) as database,
        mesh.Channel("orders", registry=registry) as orders,
        notifications(database, orders, registry) as server,
    ):
        await server.run(
            process.host, process.port, instance=process.instance, started=process.ready
        )
