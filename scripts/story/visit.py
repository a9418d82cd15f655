"""
How the story looks at the shop: over REST through the gateway, and by stubs on mesh channels.

Each chapter is `async def chapter(visit) -> str`: it says what it saw, or raises `Wrong`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

import discovery
import mesh
from scripts.stage.running import Demo

Json = dict[str, Any]
CALL_SECONDS = 15.0


class Wrong(Exception):
    """A promise that was not kept; the text says what was seen instead."""


def expect(holds: object, otherwise: str) -> None:
    if not holds:
        raise Wrong(otherwise)


@dataclass(slots=True)
class Visit:
    """
    The running demo, and ways to call it.

    `shelves` is what was there of each product at first, `bought` the order that the story began
    with.
    """

    demo: Demo
    http: aiohttp.ClientSession
    orders: mesh.Channel
    payments: mesh.Channel
    inventory: mesh.Channel
    notifications: mesh.Channel
    shelves: dict[str, int] = field(default_factory=dict)
    bought: str = ""

    async def get(self, path: str, **query: str | int) -> Json:
        return await self._ask("GET", path, params=query)

    async def post(self, path: str, body: Json, *, key: str = "", **query: str) -> Json:
        headers = {"Idempotency-Key": key} if key else {}
        return await self._ask("POST", path, json=body, headers=headers, params=query)

    async def _ask(self, method: str, path: str, **more: Any) -> Json:
        async with self.http.request(method, path, **more) as answer:
            if answer.status != 200:
                said = (await answer.text())[:500]
                raise Wrong(f"{method} {path} answered {answer.status}: {said}")
            body: Json = await answer.json()
            return body


@asynccontextmanager
async def visiting(demo: Demo, environ: Mapping[str, str]) -> AsyncIterator[Visit]:
    """Open what the story needs."""
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS)
    async with (
        discovery.from_environment({**environ, **demo.registry.environment}) as registry,
        aiohttp.ClientSession(demo.gateway, timeout=timeout) as http,
        mesh.Channel("orders", registry=registry) as orders,
        mesh.Channel("payments", registry=registry) as payments,
        mesh.Channel("inventory", registry=registry) as inventory,
        mesh.Channel("notifications", registry=registry) as notifications,
    ):
        yield Visit(demo, http, orders, payments, inventory, notifications)


def basket(product: str = "mug", quantity: int = 2, method: str = "card") -> Json:
    """An order of one product, as REST takes it."""
    return {
        "customerId": "ada",
        "items": [{"productId": product, "quantity": quantity}],
        "paymentMethod": method,
    }
