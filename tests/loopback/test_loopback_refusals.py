"""What the mesh itself says to a caller, over real sockets."""

from __future__ import annotations

import asyncio

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from mesh import Breaker, Bulkhead, Policy
from mesh.errors import BulkheadFull, CircuitOpen, DeadlineSpent, NoEndpoint
from tests.loopback.town import Flaky, method, ready, reason


async def test_nobody_there_is_unavailable_with_a_reason(town):
    async with town.channel() as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"", timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert reason(caught.value) == "NO_ENDPOINT"
    assert isinstance(caught.value.error, NoEndpoint)


async def test_a_full_bulkhead_refuses_with_a_reason(town):
    flaky = Flaky("one")
    flaky.hold = asyncio.Event()
    await town.open(flaky)
    async with town.channel(Policy(bulkhead=Bulkhead(limit=1, queue=0))) as channel:
        first = method(channel)(b"")
        async with asyncio.timeout(5):
            while not flaky.seen:
                await asyncio.sleep(0.005)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"")
        assert reason(caught.value) == "BULKHEAD_FULL"
        assert isinstance(caught.value.error, BulkheadFull)
        flaky.hold.set()
        assert await first == b"one"


async def test_an_open_circuit_says_when_to_come_back(town):
    await town.open(Flaky("one", *[grpc.StatusCode.UNAVAILABLE] * 2))
    async with town.channel(Policy(breaker=Breaker(failures=2, cooldown=30.0))) as channel:
        for _ in range(2):
            with pytest.raises(grpc.aio.AioRpcError):
                await method(channel)(b"")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"")
    assert reason(caught.value) == "CIRCUIT_OPEN"
    assert isinstance(caught.value.error, CircuitOpen)
    retry = error_details_pb2.RetryInfo()
    unpacked = [d.Unpack(retry) for d in rpc_status.from_call(caught.value).details]
    assert any(unpacked)
    assert 25 <= retry.retry_delay.seconds <= 30


async def test_too_little_time_is_refused_before_anything_is_sent(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel() as channel:
        await channel.channel_ready()
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"", timeout=0.001)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert isinstance(caught.value.error, DeadlineSpent)
    assert flaky.seen == []


async def test_waiting_for_ready_waits_for_the_first_endpoint(town):
    async with town.channel() as channel:
        call = method(channel)(b"", wait_for_ready=True, timeout=5)
        await asyncio.sleep(0.05)
        await town.open(Flaky("late"))
        assert await call == b"late"
        await town.deregister("late")
        await ready(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"", wait_for_ready=True, timeout=0.1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
