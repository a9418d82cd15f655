"""Everything an instance of the auditor is made of: channels to those it reads, and no database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import discovery
import mesh
from mesh.server import Server
from mesh.telemetry.figures import Figures
from mesh.telemetry.metrics import ClientMetrics
from services.access import OPEN, Access
from services.audit.policies import BOOKS
from services.audit.reading import Shop
from services.audit.servicer import AuditorServicer
from services.process import CONTRACT, WAITING, Process


@asynccontextmanager
async def shop(
    registry: discovery.Registry, calls: ClientMetrics | None = None
) -> AsyncIterator[Shop]:
    """A way to read the books of every service; `calls` counts what is asked."""

    def books(target: str) -> mesh.Channel:
        emit = calls.of(target) if calls is not None else None
        return mesh.Channel(target, BOOKS, registry=registry, emit=emit)

    async with (
        books("orders") as orders,
        books("payments") as payments,
        books("inventory") as inventory,
        books("notifications") as notifications,
    ):
        yield Shop(orders, payments, inventory, notifications)


@asynccontextmanager
async def auditor(
    registry: discovery.Registry,
    access: Access = OPEN,
    figures: Figures | None = None,
    calls: ClientMetrics | None = None,
) -> AsyncIterator[Server]:
    """An auditor of the services in the registry."""
    async with shop(registry, calls) as books:
        yield Server(
            "audit",
            [AuditorServicer(books)],
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
        auditor(registry, process.access, process.figures, process.calls) as server,
    ):
        await server.run(
            process.host,
            process.port,
            instance=process.instance,
            started=process.ready,
            metrics=process.metrics,
        )
