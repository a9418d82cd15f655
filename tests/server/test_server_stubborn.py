"""A handler that will not end, though it is told to."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress

import grpc

from mesh.server import Server
from tests.server.echo import Echo, EchoStub, Text
from tests.server.serving import failure


class Stubborn(Echo):
    """Hears that it is cancelled and goes on, until it is let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.ended = asyncio.Event()

    async def Say(self, request, context):
        self.begun.set()
        while not self.release.is_set():
            with suppress(asyncio.CancelledError):
                await self.release.wait()
        self.ended.set()
        return request


async def test_a_handler_that_will_not_end_does_not_hold_up_the_stop():
    stubborn = Stubborn()
    async with AsyncExitStack() as stack:
        serving = Server("echo", [stubborn]).serving(grace=0.1)
        channel = grpc.aio.insecure_channel(await serving.__aenter__())
        await stack.enter_async_context(channel)
        asking = asyncio.ensure_future(failure(EchoStub(channel).Say(Text())))
        await asyncio.wait_for(stubborn.begun.wait(), 5)
        await asyncio.wait_for(serving.__aexit__(None, None, None), 20)
        assert not stubborn.ended.is_set()
        assert (await asyncio.wait_for(asking, 5)).code() in (
            grpc.StatusCode.CANCELLED,
            grpc.StatusCode.UNAVAILABLE,
        )
    stubborn.release.set()
    await asyncio.wait_for(stubborn.ended.wait(), 5)
