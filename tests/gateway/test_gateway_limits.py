"""What one client may take of the gateway: time, bytes and places."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

import discovery
from tests.gateway.scripted import LIMITS, Orders, running, serving, until

HEAD = b"POST /v1/orders HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


async def test_a_body_that_does_not_arrive_is_408(request: pytest.FixtureRequest) -> None:
    limits = replace(LIMITS, body_seconds=0.1)
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Orders()),
        serving(registry, limits) as (gateway, url, _),
    ):
        await until(lambda: gateway.app.catalog.ready)
        port = int(url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(HEAD + b"Content-Length: 100\r\n\r\n{")
        answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        writer.close()

    assert answer.startswith(b"HTTP/1.1 408")


async def test_one_request_more_than_may_be_served_is_503(request: pytest.FixtureRequest) -> None:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        serving(registry, replace(LIMITS, requests=1)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        slow = asyncio.ensure_future(http.get(f"{url}/v1/orders/slow"))
        await asyncio.wait_for(orders.entered.wait(), 5)
        async with http.get(f"{url}/v1/orders/o-1") as refused:
            body = await refused.json()
        orders.go.set()
        async with await slow as answered:
            assert answered.status == 200

    assert (refused.status, body["details"][0]["reason"]) == (503, "GATEWAY_FULL")
    assert refused.headers["retry-after"] == "1"


async def test_a_client_may_not_ask_for_more_time_than_there_is(
    request: pytest.FixtureRequest,
) -> None:
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Orders()),
        serving(registry, replace(LIMITS, max_timeout=0.1)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        headers = {"Grpc-Timeout": "1H"}
        async with http.get(f"{url}/v1/orders/slow", headers=headers) as response:
            assert response.status == 504
