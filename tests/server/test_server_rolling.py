"""A rolling restart under load through a mesh channel: the drain order, seen by who it is for."""

from __future__ import annotations

import asyncio

import grpc

from mesh.testing.mesh import Mesh
from tests.server.echo import Echo, EchoStub, Text


class Working(Echo):
    """Takes a moment, so that calls are in flight whenever a server leaves."""

    async def Say(self, request, context):
        await asyncio.sleep(0.01)
        return request


async def test_a_rolling_restart_fails_no_call():
    failed: list[str] = []
    answered = 0
    finished = asyncio.Event()

    async def load(echo: EchoStub) -> None:
        nonlocal answered
        while not finished.is_set():
            try:
                await echo.Say(Text(text="x"), timeout=5)
                answered += 1
            except grpc.aio.AioRpcError as error:
                failed.append(f"{error.code().name}: {error.details()}")

    async with Mesh() as mesh:
        nodes = [await mesh.serve("echo", [Working()]) for _ in range(2)]
        echo = EchoStub(await mesh.channel("echo"))
        callers = [asyncio.create_task(load(echo)) for _ in range(8)]
        for place in range(2):
            before = answered
            while answered < before + 50:
                await asyncio.sleep(0.01)
            fresh = await mesh.serve("echo", [Working()])
            await nodes[place].stop()
            nodes[place] = fresh
        before = answered
        while answered < before + 50:
            await asyncio.sleep(0.01)
        finished.set()
        await asyncio.wait_for(asyncio.gather(*callers), 10)

    assert failed == []
    assert answered >= 150
