"""More than may be: who is too many is told so at once, and who was let in notices nothing."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

import discovery
from discovery.agent import Agent
from scripts.stage.memory import alone
from tests.gateway.scripted import LIMITS, Orders, running, serving, until
from tests.gateway.test_gateway_process import process, ready

PATIENCE = 30.0


async def outcome(http: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    """Status and Retry-After of one request."""
    async with http.get(url) as response:
        await response.read()
        return response.status, response.headers.get("retry-after", "")


async def test_requests_over_the_bound_are_refused_while_those_inside_are_served(
    request: pytest.FixtureRequest,
) -> None:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        serving(registry, replace(LIMITS, requests=20)) as (gateway, url, _),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as crowd,
    ):
        await until(lambda: gateway.app.catalog.ready)
        asking = [
            asyncio.ensure_future(outcome(crowd, f"{url}/v1/orders/slow")) for _ in range(120)
        ]
        async with asyncio.timeout(PATIENCE):
            # All that are too many have their answer before any other has.
            while sum(one.done() for one in asking) < 100 or len(orders.calls) < 20:
                await asyncio.sleep(0.01)
        refused = Counter(one.result() for one in asking if one.done())
        health, _ = await outcome(crowd, f"{url}/healthz")
        orders.go.set()
        served = Counter(await asyncio.gather(*(one for one in asking if not one.done())))
        afterwards = await outcome(crowd, f"{url}/v1/orders/o-1")

    assert refused == {(503, "1"): 100}
    assert (health, served, afterwards) == (200, {(200, ""): 20}, (200, ""))
    assert len(orders.calls) == 21, "what was refused never reached the service"


async def test_streams_over_the_bound_are_refused_and_unary_calls_are_served_beside_them(
    request: pytest.FixtureRequest,
) -> None:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        serving(registry, replace(LIMITS, streams=10)) as (gateway, url, _),
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as crowd,
    ):
        await until(lambda: gateway.app.catalog.ready)
        watching = [
            asyncio.ensure_future(outcome(crowd, f"{url}/v1/orders/waits:watch")) for _ in range(60)
        ]
        async with asyncio.timeout(PATIENCE):
            while sum(one.done() for one in watching) < 50:
                await asyncio.sleep(0.01)
        refused = Counter(one.result() for one in watching if one.done())
        unary = [await outcome(crowd, f"{url}/v1/orders/o-{number}") for number in range(20)]
        orders.go.set()
        ended = Counter(await asyncio.gather(*(one for one in watching if not one.done())))

    assert refused == {(503, "1"): 50}
    assert set(unary) == {(200, "")}
    assert ended == {(200, ""): 10}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc")
async def test_forty_readers_that_do_not_read_cost_little_memory_and_are_cut_off() -> None:
    """Each is sent messages of 100 kB for ever: a gateway that kept them would grow and grow."""
    orders = Orders()
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", orders),
        process(MESH_REGISTRY=agent.url) as child,
        aiohttp.ClientSession() as http,
        contextlib.AsyncExitStack() as readers,
    ):
        assert child.stdout is not None
        url = (await asyncio.wait_for(child.stdout.readline(), 60)).decode().split()[-1]
        await ready(http, url)
        open_files = Path(f"/proc/{child.pid}/fd")
        before, descriptors = alone(child.pid), len(list(open_files.iterdir()))
        for _ in range(40):
            reader = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
            readers.enter_context(reader)
            reader.sendall(b"GET /v1/orders/flood:watch HTTP/1.1\r\nHost: x\r\n\r\n")
        held, most = 0, 0.0
        for _ in range(20):
            assert (await outcome(http, f"{url}/v1/orders/o-1"))[0] == 200
            most = max(most, alone(child.pid))
            held = max(held, len(list(open_files.iterdir())) - descriptors)
            await asyncio.sleep(0.25)
        # write_seconds later each of them is closed.
        async with asyncio.timeout(PATIENCE):
            while len(list(open_files.iterdir())) - descriptors > 10:
                await asyncio.sleep(0.1)

    assert held >= 40
    assert most - before < 150, "megabytes; with gRPC's own windows they were 700"
