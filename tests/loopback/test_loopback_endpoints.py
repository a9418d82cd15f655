"""Endpoints come, go, fall ill and come back, over real sockets."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
import grpc_health.v1.health
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from mesh import Policy, RoundRobin
from tests.loopback.town import KEY, QUICK, Flaky, method, ready, reason


async def test_calls_spread_over_all_endpoints(town):
    for name in ("one", "two", "three"):
        await town.open(Flaky(name))
    async with town.channel(Policy(balance=RoundRobin())) as channel:
        await ready(channel, "one", "two", "three")
        replies = {await method(channel)(b"") for _ in range(20)}
    assert replies == {b"one", b"two", b"three"}


async def test_an_endpoint_that_leaves_finishes_its_calls(town):
    leaving, staying = Flaky("leaving"), Flaky("staying")
    leaving.hold = asyncio.Event()
    await town.open(leaving)
    async with town.channel() as channel:
        call = method(channel)(b"")
        async with asyncio.timeout(5):
            while not leaving.seen:
                await asyncio.sleep(0.005)
        await town.open(staying)
        await town.deregister("leaving")
        await ready(channel, "staying")
        assert await method(channel)(b"") == b"staying"
        leaving.hold.set()
        assert await call == b"leaving"


async def test_a_drain_that_takes_too_long_is_unavailable_not_cancelled(town):
    leaving = Flaky("leaving")
    leaving.hold = asyncio.Event()
    await town.open(leaving)
    async with town.channel(drain_seconds=0.05) as channel:
        calls = [method(channel)(b""), method(channel, "unary_stream")(b"")]
        async with asyncio.timeout(5):
            while len(leaving.seen) < 2:
                await asyncio.sleep(0.005)
        await town.deregister("leaving")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls[0]
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await calls[1].read()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert asyncio.current_task().cancelling() == 0
        leaving.hold.set()


async def test_a_server_that_comes_back_is_used_again(town):
    port = await town.open(Flaky("one"))
    async with town.channel(Policy(retry=QUICK)) as channel:
        assert await method(channel)(b"") == b"one"
        await town.stop("one")
        await town.open(Flaky("one"), port)
        assert await method(channel)(b"", metadata=KEY, wait_for_ready=True, timeout=5) == b"one"


async def test_a_new_policy_holds_from_the_next_call_on(town):
    await town.open(Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE))
    async with town.channel(Policy()) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await method(channel)(b"", metadata=KEY)
        channel.policy = Policy(retry=QUICK)
        assert await method(channel)(b"", metadata=KEY) == b"one"
        assert channel.policy.retry == QUICK


async def health_server(stack: AsyncExitStack, status: Any) -> tuple[Any, int]:
    servicer = grpc_health.v1.health.aio.HealthServicer()
    await servicer.set("town", status)
    server = grpc.aio.server(handlers=(Flaky("one"),))
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.push_async_callback(server.stop, 0)
    return servicer, port


async def test_a_server_is_picked_while_it_says_that_it_serves(town):
    status = health_pb2.HealthCheckResponse
    async with AsyncExitStack() as stack:
        servicer, port = await health_server(stack, status.NOT_SERVING)
        await town.register("one", port)
        async with town.channel(Policy(health_check="town")) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(channel)(b"", timeout=5)
            assert reason(caught.value) == "NO_ENDPOINT"
            await servicer.set("town", status.SERVING)
            await ready(channel, "one")
            assert await method(channel)(b"", timeout=5) == b"one"
            await servicer.set("town", status.NOT_SERVING)
            await ready(channel)


async def test_a_server_without_health_is_picked_all_the_same(town, caplog):
    await town.open(Flaky("one"))
    async with town.channel(Policy(health_check="town")) as channel:
        assert await method(channel)(b"", timeout=5) == b"one"
    assert "no health service" in caplog.text
