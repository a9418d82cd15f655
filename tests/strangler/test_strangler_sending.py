"""Bodies that are sent on to the old side while they arrive: who waits for whom, and who pays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from hashlib import sha256
from io import BytesIO
from typing import Any
from urllib.parse import urlsplit

import pytest
from aiohttp import web

from gateway import Limits
from gateway.strangler.legacy import WHOLE
from tests.gateway.scripted import until
from tests.strangler.town import Town, strangled

PATH = "/v1/vouchers"
MEGABYTE = 1024 * 1024
SECONDS = 20.0
# More than the sockets between a client and the old side hold.
HELD = 24 * MEGABYTE


class Taker:
    """An old service that takes a body as the test says, and what it saw of it."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = ""
        self.torn = 0
        self.headers: list[dict[str, str]] = []
        self.begun, self.go = asyncio.Event(), asyncio.Event()
        self.go.set()
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.take

    async def take(self, request: web.Request) -> web.Response:
        """Read it all, once `go` is set."""
        digest = sha256()
        self.size = 0
        try:
            while piece := await request.content.readany():
                self.size += len(piece)
                digest.update(piece)
                self.begun.set()
                await self.go.wait()
        except BaseException:
            self.torn += 1
            raise
        self.digest = digest.hexdigest()
        return web.json_response({"size": self.size})

    async def asked(self, request: web.Request) -> web.StreamResponse:
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        return await self.answer(request)


@asynccontextmanager
async def taking(
    request: pytest.FixtureRequest, *, limits: Limits | None = None, **system: Any
) -> AsyncIterator[tuple[Town, Taker]]:
    taker = Taker()
    application = web.Application()
    application.router.add_route("*", "/{rest:.*}", taker.asked)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        bounds = limits or Limits(leave_seconds=0.0, drain_seconds=2.0, body_bytes=8 * MEGABYTE)
        async with strangled(
            request.node.nodeid, limits=bounds, system={"url": url, **system}
        ) as town:
            yield town, taker
    finally:
        taker.go.set()
        await runner.cleanup()


class Client:
    """An HTTP client that sends as slowly as it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self.writer = reader, writer
        self.sent = 0

    @classmethod
    @asynccontextmanager
    async def posting(cls, url: str, *headers: str) -> AsyncIterator[Client]:
        where = urlsplit(url)
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        client = cls(reader, writer)
        head = (f"POST {PATH} HTTP/1.1", f"Host: {where.netloc}", *headers, "", "")
        writer.write("\r\n".join(head).encode())
        try:
            yield client
        finally:
            writer.close()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()
        self.sent += len(data)

    async def status(self) -> int:
        async with asyncio.timeout(SECONDS):
            return int((await self._reader.readline()).split()[1])

    async def rest(self) -> bytes:
        async with asyncio.timeout(SECONDS):
            return await self._reader.read()


async def test_it_reaches_the_old_side_before_its_end_and_whole(
    request: pytest.FixtureRequest,
) -> None:
    body = b"0123456789abcdef" * (MEGABYTE // 8)
    async with (
        taking(request) as (town, taker),
        Client.posting(town.url, f"Content-Length: {len(body)}") as client,
    ):
        await client.send(body[: MEGABYTE // 2])
        await asyncio.wait_for(taker.begun.wait(), SECONDS)
        await client.send(body[MEGABYTE // 2 :])
        assert await client.status() == 200

    assert (taker.size, taker.digest) == (len(body), sha256(body).hexdigest())
    assert taker.headers[0]["content-length"] == str(len(body))


@pytest.mark.parametrize("size", [0, 1, WHOLE, WHOLE + 1, 3 * MEGABYTE])
async def test_a_body_of_any_size_arrives_however_it_is_framed(
    request: pytest.FixtureRequest, size: int
) -> None:
    body = bytes(size)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, size, 70_000):
            yield body[start : start + 70_000]

    async with taking(request) as (town, taker):
        for data in (BytesIO(body), pieces()):
            status, told, _ = await town.ask("POST", PATH, data=data)
            assert (status, told) == (200, {"size": size})
            assert taker.digest == sha256(body).hexdigest()


async def test_no_more_is_taken_from_the_client_than_the_old_side_takes(
    request: pytest.FixtureRequest,
) -> None:
    total = 4 * HELD
    limits = Limits(leave_seconds=0.0, drain_seconds=2.0, body_bytes=total)
    async with (
        taking(request, limits=limits, timeout="30s") as (town, taker),
        Client.posting(town.url, f"Content-Length: {total}") as client,
    ):
        taker.go.clear()
        sending = asyncio.create_task(_send(client, total))
        stood, since = -1, 0
        async with asyncio.timeout(SECONDS):
            while since < 10:  # until it stands still
                await asyncio.sleep(0.05)
                since = since + 1 if client.sent == stood else 0
                stood = client.sent
        assert stood < HELD, "the gateway keeps what nobody takes"
        taker.go.set()
        await sending
        assert await client.status() == 200
    assert taker.size == total


async def _send(client: Client, total: int) -> None:
    piece = bytes(65536)
    while client.sent < total:
        await client.send(piece)


async def test_one_that_turns_out_too_large_is_413_and_the_old_side_never_sees_its_end(
    request: pytest.FixtureRequest,
) -> None:
    limits = Limits(leave_seconds=0.0, drain_seconds=2.0, body_bytes=MEGABYTE)
    async with taking(request, limits=limits) as (town, taker):

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(20):
                yield bytes(65536)

        status, body, _ = await town.ask("POST", PATH, data=pieces())
        await until(lambda: taker.torn == 1)
        announced, _, _ = await town.ask("POST", PATH, data=BytesIO(bytes(2 * MEGABYTE)))
        again, _, _ = await town.ask("POST", PATH, data=b"x")

    assert (status, body["details"][0]["reason"]) == (413, "BODY_TOO_LARGE")
    assert (announced, again) == (413, 200)
    assert len(taker.headers) == 2, "what is announced as too large is never begun"


async def test_a_slow_client_is_408_and_no_failure_of_the_old_side(
    request: pytest.FixtureRequest,
) -> None:
    limits = Limits(leave_seconds=0.0, drain_seconds=2.0, body_bytes=8 * MEGABYTE, body_seconds=1.0)
    policy = {"methodConfig": [{"name": [{}], "circuitBreaker": {"consecutiveFailures": 1}}]}
    async with taking(request, limits=limits, timeout="5s", policy=policy) as (town, taker):
        async with Client.posting(town.url, f"Content-Length: {MEGABYTE}") as client:
            await client.send(bytes(MEGABYTE // 2))
            assert await client.status() == 408
        await until(lambda: taker.torn == 1)
        status, _, by = await town.ask("POST", PATH, data=b"x")

    assert (status, by) == (200, "legacy")


async def test_the_clients_time_is_not_the_old_sides(request: pytest.FixtureRequest) -> None:
    """It pauses for longer than the old side may take, and that is nobody's fault."""
    async with (
        taking(request, timeout="0.5s") as (town, _),
        Client.posting(town.url, f"Content-Length: {MEGABYTE}") as client,
    ):
        for _ in range(3):
            await client.send(bytes(MEGABYTE // 4))
            await asyncio.sleep(0.8)
        await client.send(bytes(MEGABYTE // 4))
        assert await client.status() == 200


async def test_an_old_side_that_takes_nothing_is_504_and_not_the_clients_fault(
    request: pytest.FixtureRequest,
) -> None:
    total = HELD
    limits = Limits(leave_seconds=0.0, drain_seconds=2.0, body_bytes=total, body_seconds=5.0)
    async with (
        taking(request, limits=limits, timeout="0.5s") as (town, taker),
        Client.posting(town.url, f"Content-Length: {total}") as client,
    ):
        taker.go.clear()
        sending = asyncio.create_task(_send(client, total))
        try:
            assert await client.status() == 504
            assert b"LEGACY_TIMEOUT" in await client.rest()
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_an_answer_before_the_end_is_the_clients_and_the_rest_nobodys(
    request: pytest.FixtureRequest,
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.json_response({"oops": "no vouchers"}, status=403)

    async with taking(request) as (town, taker):
        taker.answer = refuse
        async with Client.posting(town.url, f"Content-Length: {4 * MEGABYTE}") as client:
            await client.send(bytes(MEGABYTE))
            assert await client.status() == 403
            rest = await client.rest()
        assert b"no vouchers" in rest
        assert b"connection: close" in rest.lower()
        taker.answer = taker.take
        assert (await town.ask("POST", PATH, data=BytesIO(bytes(MEGABYTE))))[0] == 200


async def test_a_client_that_leaves_ends_it_for_the_old_side_too(
    request: pytest.FixtureRequest,
) -> None:
    async with taking(request) as (town, taker):
        async with Client.posting(town.url, f"Content-Length: {MEGABYTE}") as client:
            await client.send(bytes(MEGABYTE // 2))
            await asyncio.wait_for(taker.begun.wait(), SECONDS)
        await until(lambda: taker.torn == 1)
        await until(lambda: town.strangler.asked_of("shop") == 0)


async def test_what_may_be_asked_twice_is_sent_twice_and_whole(
    request: pytest.FixtureRequest,
) -> None:
    """PUT is: its body is kept until it is answered."""
    body = b"x" * MEGABYTE
    retry = {
        "maxAttempts": 3,
        "initialBackoff": "0.01s",
        "maxBackoff": "0.01s",
        "backoffMultiplier": 1,
        "retryableStatusCodes": ["UNAVAILABLE"],
    }
    policy = {"methodConfig": [{"name": [{}], "retryPolicy": retry}]}
    async with taking(request, policy=policy) as (town, taker):

        async def first_not(request: web.Request) -> web.Response:
            taken = await taker.take(request)
            return taken if len(taker.headers) > 1 else web.Response(status=503)

        taker.answer = first_not
        status, told, _ = await town.ask("PUT", PATH, data=body)

    assert (status, told, len(taker.headers)) == (200, {"size": len(body)}, 2)
    assert taker.digest == sha256(body).hexdigest()
