"""Everything an instance of the auditor is made of: channels to those it reads, and no database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discovery
import mesh
from mesh.server import Server
from services.access import OPEN, Access
from services.audit.policies import BOOKS
from services.audit.reading import Shop
from services.audit.servicer import AuditorServicer
from services.process import CONTRACT, WAITING, Process


@asynccontextmanager
async def shop(registry: discovery.Registry) -> AsyncIterator[Shop]:
    """A way to read the books of every service."""
    async with (
        mesh.Channel("orders", BOOKS, registry=registry) as orders,
        mesh.Channel("payments", BOOKS, registry=registry) as payments,
        mesh.Channel("inventory", BOOKS, registry=registry) as inventory,
        mesh.Channel("notifications", BOOKS, registry=registry) as notifications,
    ):
        yield Shop(orders, payments, inventory, notifications)


@asynccontextmanager
async def auditor(registry: discovery.Registry, access: Access = OPEN) -> AsyncIterator[Server]:
    """An auditor of the services in the registry."""
    async with shop(registry) as books:
        yield Server(
            "audit",
            [AuditorServicer(books)],
            registry=registry,
            limits=WAITING,
            interceptors=access.interceptors(),
            descriptors=CONTRACT,
        )


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    async with (
        discovery.from_environment() as registry,
        auditor(registry, process.access) as server,
    ):
        await server.run(
            process.host,
            process.port,
            instance=process.instance,
            started=process.ready,
            metrics=process.metrics,
        )
