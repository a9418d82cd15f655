"""
Memory that cancelled calls leave behind: `python -m scripts.trials.soak HOW [--burst N]`.

    plain           grpc.aio's own channel, the caller's task cancelled    (grpc/grpc#43360)
    mesh            a mesh channel, the caller's task cancelled
    public          the same, with nothing but grpc's public cancel() to tell it by
    hedge           a mesh channel, every call hedged, the loser cancelled by the mesh
    plain-stream    grpc.aio's own channel, the task that reads a stream cancelled
    mesh-stream     a mesh channel, the task that reads a stream cancelled

Prints bytes of resident memory per call, over the second half: the first fills what is kept anyway.
It is a program of its own, so that nothing else in its process grows.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import gc
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import grpc.aio
from shop.orders.v1 import GetOrderRequest, OrderServiceStub, WatchOrderRequest

import discovery
from mesh import Channel, Policy
from mesh.client import cancelling
from mesh.policy.hedge import Hedge
from scripts.trials.panel import Mood, Panel
from scripts.trials.process import Server

HOWS = ("plain", "mesh", "public", "hedge", "plain-stream", "mesh-stream")
PAGE = os.sysconf("SC_PAGE_SIZE")
# Long enough for a call to be on its way, far too short for an answer.
UNDER_WAY = 0.003
SETTLED = 1.0
PATIENCE = 3.0
HEDGED = Policy(timeout=PATIENCE, hedge=Hedge(attempts=2, delay=0.0))
REQUEST = GetOrderRequest(order_id="o-1")
WATCHED = WatchOrderRequest(order_id="o-1")
# Long enough for a first message, so many streams at once.
STREAMING = 0.1


def resident() -> int:
    """Bytes of resident memory, once what is free was given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


async def measure(call: Callable[[], Awaitable[None]], calls: int, burst: int) -> float:
    """Bytes a call that stay."""
    sizes = []
    for _ in range(2):
        for _ in range(calls // 2 // burst):
            await asyncio.gather(*(call() for _ in range(burst)))
        # What was cancelled last ends soon after.
        await asyncio.sleep(SETTLED)
        sizes.append(resident())
    return (sizes[1] - sizes[0]) / (calls / 2)


def cancelled(stub: Any) -> Callable[[], Awaitable[None]]:
    """A call whose caller is cancelled while it is under way."""

    async def call() -> None:
        asking = asyncio.ensure_future(_ask(stub))
        await asyncio.sleep(UNDER_WAY)
        asking.cancel()
        await asyncio.wait([asking])

    return call


def unread(stub: Any) -> Callable[[], Awaitable[None]]:
    """A stream whose reader is cancelled while it waits for the second message."""

    async def read() -> None:
        async for _ in stub.WatchOrder(WATCHED, timeout=PATIENCE):
            pass

    async def call() -> None:
        reading = asyncio.ensure_future(read())
        await asyncio.sleep(STREAMING)
        reading.cancel()
        await asyncio.wait([reading])

    return call


def answered(stub: Any) -> Callable[[], Awaitable[None]]:
    """A call that is answered by one of the two who were asked, or refused under too much load."""

    async def call() -> None:
        with suppress(grpc.aio.AioRpcError):
            await _ask(stub)

    return call


async def _ask(stub: Any) -> None:
    await stub.GetOrder(REQUEST, timeout=PATIENCE)


@asynccontextmanager
async def _replicas(stack: AsyncExitStack) -> AsyncIterator[list[str]]:
    """One that hangs and one that answers."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="trials-")))
    addresses = []
    for number, mood in enumerate((Mood.HANG, Mood.ANSWER), start=1):
        panel = stack.enter_context(Panel(folder / str(number)))
        panel.mood = mood
        server = Server(
            "scripts.trials.replica",
            *(f"--instance={number}", f"--panel={folder / str(number)}", "--drain=0"),
            environment={"MESH_REGISTRY": "memory://soak"},
        )
        stack.push_async_callback(server.kill)
        addresses.append(await server.start())
    yield addresses


async def soak(how: str, calls: int, burst: int) -> float:
    """Bytes left behind by each call."""
    async with AsyncExitStack() as stack:
        addresses = await stack.enter_async_context(_replicas(stack))
        channel: Any
        if how.startswith("plain"):
            channel = grpc.aio.insecure_channel(addresses[0])
        else:
            asked = ",".join(addresses if how == "hedge" else addresses[:1])
            registry = await stack.enter_async_context(discovery.connect(f"static://{asked}"))
            channel = Channel("orders", HEDGED if how == "hedge" else Policy(), registry=registry)
        stub = OrderServiceStub(await stack.enter_async_context(channel))
        await asyncio.wait_for(channel.channel_ready(), 10)
        if how == "public":
            stack.enter_context(patch.object(cancelling, "QUIETLY", "not in this grpc"))
        make = answered if how == "hedge" else unread if "stream" in how else cancelled
        call = make(stub)
        await measure(call, max(400, 4 * burst), burst)
        return await measure(call, calls, burst)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m scripts.trials.soak", description=__doc__)
    parser.add_argument("how", choices=HOWS)
    parser.add_argument("--calls", type=int, default=4000)
    parser.add_argument("--burst", type=int, default=50)
    asked = parser.parse_args()
    print(round(asyncio.run(soak(asked.how, asked.calls, asked.burst))))


if __name__ == "__main__":
    main()
