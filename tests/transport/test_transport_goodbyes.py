"""
A server that ends its connections for their age, under load, and calls that may be made only once.

Each connection ends in the midst of calls; those that its last GOAWAY left unseen are made again,
since our own HTTP/2 knows that nobody saw them.  grpcio alone cannot tell: over it about one call
in a thousand fails here (12 of 16,000), for its retries are off under a mesh.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import grpc
import grpc.aio
import pytest

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.client.channel import Channel
from mesh.client.http2 import Http2Channel
from mesh.errors import Processed
from mesh.policy.config import Policy
from mesh.transport.frames import ErrorCode
from tests.transport import served
from tests.transport.saying import answer, goaway, rst_stream
from tests.transport.scripted import scripted
from tests.transport.served import Echo, expected

SLOW = "/test.Served/slow"
AGED = (("grpc.max_connection_age_ms", 100), ("grpc.max_connection_age_grace_ms", 20_000))
CALLERS, SECONDS = 16, 3.0


@asynccontextmanager
async def mesh(address: str) -> AsyncIterator[Channel]:
    registry = MemoryRegistry()
    instance = Instance("echo", "127.0.0.1", int(address.rpartition(":")[2]))
    async with (
        registry.register(instance),
        Channel("echo", Policy(), registry=registry, transport="http2") as channel,
    ):
        yield channel


async def load(channel: Any) -> tuple[int, list[Any]]:
    """Unkeyed calls, each another one: how many were answered right, and the errors of others."""
    slow, errors, right, made = channel.unary_unary(SLOW), [], 0, 0
    until = monotonic() + SECONDS

    async def caller() -> None:
        nonlocal right, made
        while monotonic() < until:
            made += 1
            request = b"%d" % made
            try:
                reply = await slow(request, timeout=20)
            except grpc.aio.AioRpcError as error:
                errors.append(error)
            else:
                right += reply == expected(request)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    assert right + len(errors) == made
    return right, errors


async def test_connections_that_end_for_their_age_fail_no_unkeyed_call_of_a_mesh() -> None:
    echo = Echo()
    async with served.aio(echo, options=AGED) as address, mesh(address) as channel:
        right, errors = await load(channel)

    assert errors == []
    assert right > 500
    # Nobody's call was made twice.
    assert len(echo.seen) == len(set(echo.seen)) == right


async def test_what_a_channel_alone_tells_of_them_was_seen_by_nobody() -> None:
    """Without a mesh there is nobody to make a call again: but its error says that it may be."""
    echo = Echo()
    async with served.aio(echo, options=AGED) as address, Http2Channel(address) as channel:
        right, errors = await load(channel)

    assert right > 500
    assert {error.processed for error in errors} <= {Processed.REFUSED, Processed.NO}
    assert len(echo.seen) == right


@pytest.mark.parametrize(
    "unseen",
    [lambda n: goaway(n - 2 if n > 2 else 0), lambda n: rst_stream(n, ErrorCode.REFUSED_STREAM)],
    ids=["GOAWAY", "REFUSED_STREAM"],
)
async def test_an_unkeyed_call_that_nobody_saw_is_made_again(unseen: Any) -> None:
    answers = [unseen, lambda n: answer(n, b"well")]
    async with scripted(lambda n: answers.pop(0)(n)) as server, mesh(server.address) as channel:
        reply = await channel.unary_unary(SLOW)(b"once", timeout=20)

    assert reply == b"well"
    assert len(server.bodies) == 2


async def test_an_unkeyed_call_that_somebody_may_have_seen_is_not() -> None:
    answers = [lambda n: rst_stream(n, ErrorCode.INTERNAL_ERROR), lambda n: answer(n, b"well")]
    async with scripted(lambda n: answers.pop(0)(n)) as server, mesh(server.address) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(SLOW)(b"once", timeout=20)

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert len(server.bodies) == 1
