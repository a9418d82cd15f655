"""A gateway before a scripted shop, and an HTTP client."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import discovery
from gateway.contract import Contract
from tests.gateway.scripted import (
    Inventory,
    Notifications,
    Orders,
    Payments,
    Shop,
    descriptors,
    running,
    serving,
    until,
)


@pytest.fixture(scope="session")
def contract() -> Contract:
    """The shop's contract, in a pool of its own."""
    files = descriptors().file
    services = [f"{f.package}.{s.name}" for f in files for s in f.service]
    return Contract(files, services)


@pytest.fixture
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[Shop]:
    """A gateway before one instance each of orders, payments, inventory and notifications."""
    orders, notifications = Orders(), Notifications()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        running(registry, "payments", Payments()),
        running(registry, "inventory", Inventory()),
        running(registry, "notifications", notifications),
        serving(registry) as (gateway, url, http),
    ):
        await until(lambda: len(gateway.app.catalog.services) == 4)
        yield Shop(url, http, orders, notifications, gateway)
