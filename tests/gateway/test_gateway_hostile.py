"""Bytes that no honest client sends: what is answered, what is closed, and who is served beside."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import pytest

import discovery
from tests.gateway import hostile, hostile_requests
from tests.gateway.hostile import Case
from tests.gateway.scripted import Notifications, Orders, Shop, running, serving, until

GROUPS: dict[str, dict[str, Case]] = {
    "lengths": hostile.LENGTHS,
    "codings": hostile.CODINGS,
    "chunks": hostile.CHUNKED,
    "lines": hostile_requests.LINES,
    "hosts": hostile_requests.HOSTS,
    "targets": hostile_requests.TARGETS,
    "paths": hostile_requests.PATHS,
    "connections": hostile_requests.CONNECTIONS,
    "headers": hostile_requests.HEADERS,
    "bodies": hostile_requests.BODIES,
}
CASES = {
    f"{group}: {name}": case for group, cases in GROUPS.items() for name, case in cases.items()
}
PROBE = hostile.get(b"/v1/orders/probe")
SECONDS = 10.0
OURS = ("probe", "beside")


@pytest.fixture(scope="module")
async def target() -> AsyncIterator[Shop]:
    """One gateway for all of it: what one case leaves behind, the next one meets."""
    orders, notifications = Orders(), Notifications()
    async with (
        discovery.connect("memory://hostile") as registry,
        running(registry, "orders", orders),
        running(registry, "notifications", notifications),
        serving(registry) as (gateway, url, http),
    ):
        await until(lambda: len(gateway.app.catalog.services) == 2)
        yield Shop(url, http, orders, notifications, gateway)


@pytest.fixture(scope="module")
async def beside(target: Shop) -> AsyncIterator[Iterator[int]]:
    """A client that behaves, all the while: how often it was answered well so far."""
    counts = {200: 0}

    async def ask() -> None:
        while True:
            async with target.http.get(f"{target.url}/v1/orders/beside") as response:
                counts[response.status] = counts.get(response.status, 0) + 1
            await asyncio.sleep(0.002)

    def good() -> Iterator[int]:
        while True:
            assert list(counts) == [200], counts
            yield counts[200]

    asking = asyncio.ensure_future(ask())
    yield good()
    assert not asking.done(), asking.exception()
    asking.cancel()


def test_there_are_at_least_ninety_of_them() -> None:
    assert len(CASES) == sum(map(len, GROUPS.values())) >= 90


@pytest.mark.parametrize("name", CASES)
async def test_hostile_bytes_get_what_they_deserve_and_others_are_served(
    target: Shop, beside: Iterator[int], name: str
) -> None:
    case, before = CASES[name], next(beside)
    target.orders.calls.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(target.url.rsplit(":", 1)[1]))
    try:
        with contextlib.suppress(OSError):  # it may be closed while we still write
            writer.write(case.raw)
            await writer.drain()
        answers = [await answer(reader) for _ in case.statuses]
        if case.stays:
            writer.write(PROBE)
            status, body = await answer(reader)
            assert (status, b'"orderId":"probe"' in body) == (200, True), (
                "another answer came first"
            )
        else:
            assert await rest(reader) == b""
    finally:
        writer.close()
    calls = [getattr(call, "order_id", "") for call in target.orders.calls]
    reached = [each for each in calls if each not in OURS]
    await until(lambda: next(beside) > before)

    assert tuple(status for status, _ in answers) == case.statuses
    assert len(reached) == case.reached, reached
    assert case.reached > 1 or "smuggled" not in reached


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """One answer's status and body; (0, b"") when the connection ended instead."""
    try:
        async with asyncio.timeout(SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            fields = [line.lower().partition(b": ") for line in head.split(b"\r\n")[1:]]
            length = next((int(value) for name, _, value in fields if name == b"content-length"), 0)
            return status, await reader.readexactly(length)
    except (asyncio.IncompleteReadError, OSError):
        return 0, b""


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Whatever comes until the connection ends, which it does."""
    try:
        async with asyncio.timeout(SECONDS):
            return await reader.read()
    except OSError:
        return b""


async def test_pipelined_requests_are_answered_in_their_order(target: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(target.url.rsplit(":", 1)[1]))
    writer.write(b"".join(hostile.get(b"/v1/orders/%d" % number) for number in range(50)))
    bodies = [(await answer(reader))[1] for _ in range(50)]
    writer.close()

    assert all(b'"orderId":"%d"' % number in body for number, body in enumerate(bodies))


async def test_a_line_end_in_metadata_is_no_line_end_in_the_answer(target: Any) -> None:
    """A service may well echo what it was sent; HTTP must not see a header in it."""
    path = f"{target.url}/v1/orders/NOT_FOUND~a%0d%0aX-Injected:%20y"
    from yarl import URL

    async with aiohttp.ClientSession() as http, http.get(URL(path, encoded=True)) as response:
        assert (response.status, "x-injected" in response.headers) == (404, False)
        assert "X-Injected" in (await response.json())["message"]
