"""An old HTTP shop and a new gRPC one, both real and scripted, and a gateway that strangles."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import grpc
from aiohttp import web
from google.type import money_pb2
from shop.inventory.v1 import inventory_pb2, inventory_pb2_grpc
from yarl import URL

import discovery
from gateway import Gateway, Limits
from gateway.strangler.configuration import load
from gateway.strangler.strangler import Strangler
from tests.gateway.scripted import running, until

LIMITS = Limits(leave_seconds=0.0, drain_seconds=2.0)
TITLES = {"mug": "Stoneware mug", "jug": "Stoneware jug"}


@dataclass
class Side:
    """What a side of the town is told to do, and what it saw."""

    status: int = 200
    delay: float = 0.0
    titles: dict[str, str] = field(default_factory=lambda: dict(TITLES))
    seen: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    entered: asyncio.Event = field(default_factory=asyncio.Event)

    async def enter(self, headers: dict[str, str]) -> None:
        self.seen.append(headers)
        self.entered.set()
        try:
            await asyncio.sleep(self.delay)
        except asyncio.CancelledError:
            self.left.set()
            raise


def old_product(product_id: str, title: str) -> dict[str, Any]:
    """A product as the old shop writes it: other order, numbers as numbers, no empty fields."""
    return {
        "title": title,
        "price": {"units": 14, "currencyCode": "USD", "nanos": 500000000},
        "available": 3,
        "productId": product_id,
    }


def new_product(product_id: str, title: str) -> Any:
    price = money_pb2.Money(currency_code="USD", units=14, nanos=500_000_000)
    return inventory_pb2.Product(product_id=product_id, title=title, price=price, available=3)


class OldShop(Side):
    """The old service's handlers."""

    async def products(self, request: web.Request) -> web.StreamResponse:
        await self.enter(dict(request.headers))
        if self.status != 200:
            return web.json_response({"oops": "old"}, status=self.status)
        found = [old_product(*item) for item in sorted(self.titles.items())]
        return web.json_response({"products": found})

    async def product(self, request: web.Request) -> web.StreamResponse:
        await self.enter(dict(request.headers))
        if self.status != 200:
            return web.json_response({"oops": "old"}, status=self.status)
        name = request.match_info["id"]
        if name not in self.titles:
            return web.json_response({"oops": "no such product"}, status=404)
        return web.json_response(old_product(name, self.titles[name]), headers={"X-Old": "yes"})

    async def other(self, request: web.Request) -> web.StreamResponse:
        """Echoes whatever only the old service has."""
        self.bodies.append(await request.read())
        await self.enter(dict(request.headers))
        if request.path == "/v1/large":
            response = web.StreamResponse(headers={"X-Old": "yes"})
            await response.prepare(request)
            try:
                for _ in range(int(request.query["pieces"])):
                    await response.write(b"x" * 65536)
            except (ConnectionResetError, asyncio.CancelledError):
                self.left.set()
                raise
            return response
        answer = {"method": request.method, "path": request.raw_path}
        return web.json_response(
            answer,
            status=self.status,
            headers={
                "Connection": "x-hop",
                "X-Hop": "1",
                "Keep-Alive": "timeout=1",
                "Access-Control-Allow-Origin": "*",
                "X-Request-Id": "the old shop's own",
            },
        )


class NewShop(Side, inventory_pb2_grpc.InventoryServiceServicer):
    """The new service."""

    async def _enter(self, context: Any) -> None:
        await self.enter({k: str(v) for k, v in context.invocation_metadata()})
        if self.status == 503:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "scripted")
        elif self.status == 500:
            await context.abort(grpc.StatusCode.INTERNAL, "scripted")

    async def ListProducts(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        found = [new_product(*item) for item in sorted(self.titles.items())]
        return inventory_pb2.ListProductsResponse(products=found)

    async def GetProduct(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        if request.product_id not in self.titles:
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such product")
        return new_product(request.product_id, self.titles[request.product_id])

    async def ReserveStock(self, request: Any, context: Any) -> Any:
        await self._enter(context)
        return inventory_pb2.Reservation(order_id=request.reservation.order_id)


@asynccontextmanager
async def old_shop(shop: OldShop) -> AsyncIterator[str]:
    """Its URL, while the block runs."""
    application = web.Application(client_max_size=2**24)
    application.router.add_get("/v1/products", shop.products)
    application.router.add_get("/v1/products/{id}", shop.product)
    application.router.add_route("*", "/{rest:.*}", shop.other)
    runner = web.AppRunner(application, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@dataclass
class Town:
    """Everything a test talks to."""

    gateway: Gateway
    strangler: Strangler
    url: str
    http: aiohttp.ClientSession
    old: OldShop
    new: NewShop

    async def ask(
        self, method: str, path: str, customer: str = "", **keywords: Any
    ) -> tuple[int, Any, str]:
        """Status, body and who has answered."""
        headers = dict(keywords.pop("headers", {}))
        if customer:
            headers["X-Customer-Id"] = customer
        url = URL(self.url + path, encoded=True)
        async with self.http.request(method, url, headers=headers, **keywords) as response:
            text = await response.read()
            is_json = "json" in response.content_type and text
            by = response.headers.get("x-served-by", "")
            return response.status, json.loads(text) if is_json else text, by

    async def sides(self, customers: int, path: str = "/v1/products/mug") -> dict[str, str]:
        """Who answers each of so many customers."""
        found = {}
        for number in range(customers):
            status, _, by = await self.ask("GET", path, f"c-{number}")
            assert status == 200, by
            found[f"c-{number}"] = by
        return found

    async def operator(self, **order: Any) -> tuple[int, Any]:
        """What an operator's POST is answered."""
        url = f"{self.gateway.app.admin_url}admin/strangler"
        async with self.http.post(url, json=order) as response:
            return response.status, await response.json()

    async def report(self, route: str = "products") -> Any:
        url = f"{self.gateway.app.admin_url}admin/strangler"
        async with self.http.get(url) as response:
            routes = (await response.json())["routes"]
        return next(each for each in routes if each["route"] == route)


def document(url: str, *, system: dict[str, Any] | None = None, **route: Any) -> dict[str, Any]:
    """A configuration: `route` is added to what the route of products is told."""
    return {
        "servedBy": "X-Served-By",
        "legacy": {"shop": {"url": url, "timeout": "5s", **(system or {})}},
        "routes": [
            {
                "name": "products",
                "legacy": "shop",
                "match": ["GET /v1/products", "GET /v1/products/{product_id}"],
                "key": "header:X-Customer-Id",
                **route,
            },
            {
                "name": "rest",
                "legacy": "shop",
                "match": ["GET /v1/large", "POST /v1/vouchers", "PUT /v1/vouchers"],
            },
        ],
    }


@asynccontextmanager
async def strangled(
    name: str,
    *,
    file: Path | None = None,
    system: dict[str, Any] | None = None,
    limits: Limits = LIMITS,
    **route: Any,
) -> AsyncIterator[Town]:
    """The town; the configuration is written to `file` where one is given."""
    old, new = OldShop(), NewShop()
    async with (
        discovery.connect(f"memory://{name}") as registry,
        old_shop(old) as old_url,
    ):
        told = json.dumps(document(old_url, system=system, **route))
        if file is not None:
            file.write_text(told)
            strangler = Strangler(file, file.with_suffix(".state"))
        else:
            strangler = Strangler(load(told))
        gateway = Gateway(registry, limits=limits, admin=("127.0.0.1", 0), strangler=strangler)
        async with (
            running(registry, "inventory", new),
            gateway.serving() as url,
            aiohttp.ClientSession() as http,
        ):
            await until(lambda: "inventory" in gateway.app.catalog.services)
            shift = strangler.shifts["products"]
            if route.get("shadow") is not None:
                await until(lambda: len(shift.twins) == 2)
            yield Town(gateway, strangler, url, http, old, new)
