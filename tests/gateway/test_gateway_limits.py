"""What one client may take of the gateway: time, bytes and places."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

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


async def test_one_stream_more_than_may_be_open_is_503(request: pytest.FixtureRequest) -> None:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        serving(registry, replace(LIMITS, streams=1)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        first = await http.get(f"{url}/v1/orders/waits:watch")
        await asyncio.wait_for(orders.entered.wait(), 5)
        async with http.get(f"{url}/v1/orders/waits:watch") as refused:
            body = await refused.json()
        async with http.get(f"{url}/v1/orders/o-1") as unary:
            assert unary.status == 200
        first.close()
        await asyncio.wait_for(orders.left.wait(), 5)
        orders.go.set()
        await until(lambda: gateway.app._serving == 0)
        async with http.get(f"{url}/v1/orders/o-1:watch") as again:
            assert again.status == 200

    assert (refused.status, body["details"][0]["reason"]) == (503, "GATEWAY_FULL")
    assert refused.headers["retry-after"] == "1"


@pytest.mark.parametrize(
    ("size", "ratio", "status", "reason"),
    [
        (60_000, 10, 200, ""),  # small enough whatever its ratio
        (200_000, 10, 413, "BODY_TOO_DENSE"),
        (200_000, 2000, 200, ""),
        (5_000_000, 2000, 413, "BODY_TOO_LARGE"),
    ],
)
async def test_a_body_that_grows_when_it_is_unpacked_is_refused(
    request: pytest.FixtureRequest, size: int, ratio: int, status: int, reason: str
) -> None:
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", Orders()),
        serving(registry, replace(LIMITS, inflate_ratio=ratio)) as (gateway, url, http),
    ):
        await until(lambda: gateway.app.catalog.ready)
        packed = gzip.compress(b'{"customerId": "c"' + b" " * size + b"}")
        headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        async with http.post(f"{url}/v1/orders", data=packed, headers=headers) as response:
            body = await response.json()

    assert response.status == status
    assert not reason or body["details"][0]["reason"] == reason


async def test_a_client_that_does_not_read_its_answer_is_closed(
    request: pytest.FixtureRequest,
) -> None:
    orders = Orders()
    async with (
        discovery.connect(f"memory://{request.node.nodeid}") as registry,
        running(registry, "orders", orders),
        serving(registry, replace(LIMITS, write_seconds=0.2)) as (gateway, url, _),
    ):
        await until(lambda: gateway.app.catalog.ready)
        port = int(url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(b"GET /v1/orders/flood:watch HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(orders.left.wait(), 20)
        await until(lambda: gateway.app._serving == 0)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        answer = b""
        async with asyncio.timeout(10):
            while piece := await reader.read(1 << 20):
                answer += piece
        writer.close()

    assert not answer.endswith(b"0\r\n\r\n"), "a stream that was cut off must not look whole"


@pytest.mark.slow
async def test_a_client_that_does_not_read_a_whole_answer_is_closed(shop: Any) -> None:
    """It is in the server's buffers, and the kernel's, by then: the kernel gives up for us."""
    port = int(shop.url.rsplit(":", 1)[1])
    _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    writer.write(b"GET /v1/orders/large HTTP/1.1\r\nHost: x\r\n\r\n")
    us = writer.get_extra_info("sockname")[1]
    await until(lambda: (port, us) in _connections())
    began = asyncio.get_running_loop().time()
    await until(lambda: (port, us) not in _connections(), 30)
    took = asyncio.get_running_loop().time() - began
    writer.close()

    assert took < 20


def _connections() -> set[tuple[int, int]]:
    """Local and remote port of every connection here, half-closed ones as well."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ends = [(words[1], words[2]) for words in lines]
    return {(int(a.split(":")[1], 16), int(b.split(":")[1], 16)) for a, b in ends}


async def test_silent_clients_keep_nobody_out(shop: Any) -> None:
    port = int(shop.url.rsplit(":", 1)[1])
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
        assert (await shop.ask("GET", "/healthz"))[0] == 200


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
# What is sent at once, and what then drips: never enough to be done.
SLOW: dict[str, tuple[bytes, bytes]] = {
    "says nothing": (b"", b""),
    "stops in the request line": (b"GET / HT", b""),
    "drips a header": (b"GET / HTTP/1.1\r\nX: ", b"a"),
    "drips headers": (b"GET / HTTP/1.1\r\n", b"X: a\r\n"),
    "drips empty lines": (b"", b"\r\n"),
    "is silent after an answer": (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b""),
    "drips a body": (HEAD + b"Content-Length: 1000\r\n\r\n", b" "),
    "drips chunks": (CHUNKED, b"1\r\n \r\n"),
    "drips a chunk's size": (CHUNKED, b"0"),
    "drips an extension": (CHUNKED + b"1;", b"a"),
    "drips a trailer": (CHUNKED + b"2\r\n{}\r\n0\r\nX: ", b"a"),
    "stops before the last line": (CHUNKED + b"2\r\n{}\r\n0\r\n", b""),
    "drips a body that nobody wants": (
        b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n",
        b" ",
    ),
}


@pytest.mark.slow
async def test_clients_that_are_slow_to_ask_are_closed_within_ten_seconds(shop: Any) -> None:
    """All of them at once, and one that is not slow beside them."""
    port = int(shop.url.rsplit(":", 1)[1])
    clock = LoopClock()
    ticking = asyncio.ensure_future(clock.run())
    closing = {
        name: asyncio.ensure_future(_closed(port, first, drip, clock))
        for name, (first, drip) in SLOW.items()
    }
    try:
        async with asyncio.timeout(120):
            while not all(task.done() for task in closing.values()):
                assert (await shop.ask("GET", "/v1/orders/o-1"))[0] == 200
                await asyncio.sleep(0.2)
    finally:
        for task in (ticking, *closing.values()):
            task.cancel()
    took = {name: task.result() for name, task in closing.items()}

    assert {name: seconds for name, seconds in took.items() if seconds > 13.0} == {}


class LoopClock:
    """
    Seconds that the event loop has lived through: they pass as slowly as it is served.

    On a machine that is busy elsewhere, whoever is closed is so when the loop comes to it: what the
    loop had no time for is not the gateway's.  It never runs ahead of the clock on the wall.
    """

    TICK = 0.1

    def __init__(self) -> None:
        self.now = 0.0

    async def run(self) -> None:
        while True:
            await asyncio.sleep(self.TICK)
            self.now += self.TICK


async def _closed(port: int, first: bytes, drip: bytes, clock: LoopClock) -> float:
    """How many of the loop's seconds it takes until such a client is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    began = clock.now
    writer.write(first)
    dripping = asyncio.ensure_future(_drip(writer, drip))
    try:
        with contextlib.suppress(ConnectionError):
            while await reader.read(4096):
                pass
        return clock.now - began
    finally:
        dripping.cancel()
        writer.close()


async def _drip(writer: asyncio.StreamWriter, drip: bytes) -> None:
    while True:
        writer.write(drip)
        await asyncio.sleep(0.5)


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
