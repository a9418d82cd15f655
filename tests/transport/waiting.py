"""What the tests of a subchannel share: channels that are quick to try again, and waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import pytest

QUICKLY = (("grpc.initial_reconnect_backoff_ms", 20), ("grpc.max_reconnect_backoff_ms", 50))
LIVELY = (*QUICKLY, ("grpc.keepalive_time_ms", 200), ("grpc.keepalive_timeout_ms", 200))
READY, IDLE = grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.IDLE
FAILURE = grpc.ChannelConnectivity.TRANSIENT_FAILURE


async def within(awaitable: Awaitable[Any], seconds: float = 20.0) -> Any:
    return await asyncio.wait_for(awaitable, seconds)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():
            await asyncio.sleep(0.005)


async def failure(call: Any) -> Any:
    """The error that a call ends with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await within(call)
    return caught.value
