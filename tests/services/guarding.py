"""A shop that asks who calls, with a gateway before it that knows its customers by their tokens."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import pytest

from gateway import Gateway
from gateway.guard import Guard
from mesh.identity import Seal
from mesh.identity.jwks import Jwks
from services.access import Access
from services.edge.pages import pages
from tests.services.shopping import Shop

jwt = pytest.importorskip("jwt", reason="needs the extra auth")
from cryptography.hazmat.primitives.asymmetric import ec  # noqa: E402

from mesh.identity.tokens import Tokens  # noqa: E402

PRIVATE = ec.generate_private_key(ec.SECP256R1())
# A path of each service that the gateway has to know first.
ROUTED = ("/v1/orders", "/v1/products", "/v1/notifications", "/v1/payments")
SECRET = b"0123456789abcdef0123456789abcdef"


def token(customer: str) -> str:
    claims = {"sub": customer, "exp": time.time() + 60}
    return f"Bearer {jwt.encode(claims, PRIVATE, algorithm='ES256', headers={'kid': 'k'})}"


def as_(customer: str) -> tuple[tuple[str, str], ...]:
    """What a customer's own gRPC client sends."""
    return (("authorization", token(customer)),)


@dataclass
class Guarded:
    """A shop that asks who calls, with a gateway before it."""

    shop: Shop
    http: aiohttp.ClientSession
    access: Access

    async def ask(self, who: str, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": token(who)} if who else {}
        async with self.http.request(method, path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def buy(self, who: str, **more: Any) -> dict[str, Any]:
        body = {"customerId": who, "items": [{"productId": "mug", "quantity": 1}], **more}
        status, order = await self.ask(who, "POST", "/v1/orders?wait=true", body)
        assert status == 200, order
        return order

    def channel(self, service: str) -> grpc.aio.Channel:
        return grpc.aio.insecure_channel(self.shop.addresses[service])


@asynccontextmanager
async def guarding(closed_shop: Shop, folder: Path) -> AsyncIterator[Guarded]:
    """Open the shop for customers, each of whom has a token, and for "boss", who is staff."""
    described = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(PRIVATE.public_key()))
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{**described, "kid": "k"}]}))
    seal, tokens = Seal([SECRET]), Tokens(Jwks(str(keys)))
    access = closed_shop.access = Access(seal, tokens, staff=frozenset({"user:boss"}))
    gateway = Gateway(closed_shop.registry, guard=Guard(tokens=tokens, seal=seal))
    pages(gateway)
    async with AsyncExitStack() as stack:
        for service in ("inventory", "payments", "orders", "notifications"):
            await stack.enter_async_context(getattr(closed_shop, service)())
        url = await stack.enter_async_context(gateway.serving(port=0))
        http = await stack.enter_async_context(aiohttp.ClientSession(url))
        made = Guarded(closed_shop, http, access)
        async with asyncio.timeout(20):
            for path in ROUTED:
                while (await made.ask("boss", "GET", path))[0] in (404, 503):
                    await asyncio.sleep(0.02)
        yield made
