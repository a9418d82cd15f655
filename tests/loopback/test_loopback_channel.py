"""What a mesh channel does that a plain one does not, over real sockets."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from time import monotonic
from typing import Any

import grpc
import grpc.aio
import grpc_health.v1.health
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh import Breaker, Bulkhead, Policy, Retry, RoundRobin, detached
from mesh.client.channel import Channel
from mesh.client.status import RpcFailed
from mesh.errors import BulkheadFull, CircuitOpen, Code, DeadlineSpent, NoEndpoint
from mesh.inbound import INBOUND, Inbound
from mesh.policy.fallback import Fallback
from mesh.policy.hedge import Hedge

KEY = (("idempotency-key", "k-1"),)
QUICK = Retry(attempts=4, base=0.01, codes=frozenset({Code.UNAVAILABLE}))


class Flaky(grpc.GenericRpcHandler):
    """Fails with the statuses it is given, one a call, then answers with its name."""

    def __init__(self, name: str = "one", *failures: grpc.StatusCode) -> None:
        self.name = name
        self.failures = list(failures)
        self.seen: list[dict[str, Any]] = []
        self.deadlines: list[float | None] = []
        self.requests: list[list[bytes]] = []
        self.hold: asyncio.Event | None = None

    def service(self, handler_call_details: Any) -> Any:
        service, kind = handler_call_details.method.strip("/").split("/")
        if service != "town.Hall":
            return None
        make = getattr(grpc, f"{kind}_rpc_method_handler")
        return make(getattr(self, kind))

    async def _serve(self, context: Any) -> bytes:
        self.seen.append(dict(context.invocation_metadata()))
        self.deadlines.append(context.time_remaining())
        if self.failures:
            await context.abort(self.failures.pop(0), "flaky")
        if self.hold is not None:
            await self.hold.wait()
        return self.name.encode()

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        return await self._serve(context)

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        yield await self._serve(context)
        yield b"end"

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        self.requests.append([request async for request in requests])
        return await self._serve(context)

    async def stream_stream(
        self, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        seen: list[bytes] = []
        self.requests.append(seen)
        async for request in requests:
            seen.append(request)
            if len(seen) == 2:
                yield await self._serve(context)


class Town:
    """Servers that come and go, and the registry that knows them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.registry = MemoryRegistry()
        self._stack = stack
        self._servers: dict[str, Any] = {}
        self._registrations: dict[str, Any] = {}

    async def open(self, handler: Flaky, port: int = 0) -> int:
        server = grpc.aio.server(handlers=(handler,), options=(("grpc.so_reuseport", 0),))
        bound = server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        self._stack.push_async_callback(server.stop, 0)
        self._servers[handler.name] = server
        await self.register(handler.name, bound)
        return bound

    async def register(self, name: str, port: int) -> None:
        instance = Instance("town", "127.0.0.1", port, id=name)
        self._registrations[name] = await self._stack.enter_async_context(
            self.registry.register(instance)
        )

    async def deregister(self, name: str) -> None:
        await self._registrations.pop(name).leave()

    async def stop(self, name: str) -> None:
        await self._servers.pop(name).stop(0)

    def channel(self, policy: Policy | None = None, **arguments: Any) -> Channel:
        return Channel("town", policy or Policy(), registry=self.registry, **arguments)


@pytest.fixture
async def town() -> AsyncIterator[Town]:
    async with AsyncExitStack() as stack:
        yield Town(stack)


def method(channel: Any, kind: str = "unary_unary") -> Any:
    return getattr(channel, kind)(f"/town.Hall/{kind}")


async def ready(channel: Channel, *names: str) -> None:
    async with asyncio.timeout(5):
        while {m.id for m in channel.memory.pool.members.values() if m.ready} != set(names):
            await asyncio.sleep(0.005)


# -- retries


async def test_a_keyed_call_is_repeated_and_says_how_often(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        assert await method(channel)(b"", metadata=KEY) == b"one"
    previous = [seen.get("grpc-previous-rpc-attempts") for seen in flaky.seen]
    assert previous == [None, "1", "2"]


async def test_a_call_that_may_have_side_effects_is_not_repeated(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel)(b"")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == "flaky"
    assert len(flaky.seen) == 1


async def test_a_server_that_cancels_is_unavailable_to_the_flow(town):
    await town.open(Flaky("one", grpc.StatusCode.CANCELLED))
    async with town.channel(Policy(retry=QUICK)) as channel:
        assert await method(channel)(b"", metadata=KEY) == b"one"


@pytest.mark.parametrize("kind", ["unary_stream", "stream_unary", "stream_stream"])
async def test_a_stream_is_opened_anew_until_it_answers(town, kind):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        call = method(channel, kind)(
            b"" if kind == "unary_stream" else [b"a", b"b"], metadata=KEY, timeout=5
        )
        if kind == "stream_unary":
            assert await call == b"one"
        else:
            assert await call.read() == b"one"
    assert len(flaky.seen) == 3
    if kind != "unary_stream":
        assert flaky.requests == [[b"a", b"b"]] * 3


async def test_a_written_stream_is_replayed_too(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        call = method(channel, "stream_stream")(metadata=KEY, timeout=5)
        await call.write(b"a")
        await call.write(b"b")
        assert await call.read() == b"one"
        await call.write(b"c")
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
    assert flaky.requests == [[b"a", b"b"], [b"a", b"b", b"c"]]


async def test_more_than_the_buffer_holds_is_not_replayed(town):
    flaky = Flaky("one", grpc.StatusCode.UNAVAILABLE)
    await town.open(flaky)
    async with town.channel(Policy(retry=QUICK)) as channel:
        chunks = [b"x" * 100_000] * 4
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await method(channel, "stream_unary")(chunks, metadata=KEY, timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert len(flaky.seen) == 1


async def test_a_call_to_a_server_that_is_gone_goes_elsewhere_whatever_it_does(town):
    """Connecting failed, so nothing was processed: any call may be sent to another endpoint."""
    await town.open(Flaky("one"))
    await town.open(Flaky("two"))
    async with town.channel(Policy(retry=QUICK, balance=RoundRobin())) as channel:
        await ready(channel, "one", "two")
        await town.stop("one")
        replies = {await method(channel)(b"", timeout=5) for _ in range(20)}
    assert replies == {b"two"}


# -- deadlines


async def test_the_inbound_deadline_bounds_the_call_less_a_reserve(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel(Policy(reserve=0.1)) as channel:
        token = INBOUND.set(Inbound(deadline=monotonic() + 1.0, traceparent="00-aa-bb-01"))
        try:
            await method(channel)(b"", timeout=30)
            with detached():
                await method(channel)(b"", timeout=30)
        finally:
            INBOUND.reset(token)
    assert 0.7 < flaky.deadlines[0] < 0.95
    assert 29 < flaky.deadlines[1] <= 30.1
    assert [seen.get("traceparent") for seen in flaky.seen] == ["00-aa-bb-01", None]


async def test_the_endless_timeout_of_a_blocking_server_is_no_deadline(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel() as channel:
        assert await method(channel)(b"", timeout=9.223372036854776e18) == b"one"
    assert flaky.deadlines == [None]


async def test_an_attempt_that_is_too_slow_is_made_again(town):
    slow, quick = Flaky("one"), Flaky("two")
    slow.hold = asyncio.Event()
    await town.open(slow)
    await town.open(quick)
    policy = Policy(retry=QUICK, attempt_timeout=0.1, timeout=5.0, balance=RoundRobin())
    async with town.channel(policy) as channel:
        await ready(channel, "one", "two")
        assert {await method(channel)(b"", metadata=KEY) for _ in range(4)} == {b"two"}
        slow.hold.set()


async def test_a_stream_outlives_the_timeouts_of_replies(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel(Policy(timeout=0.2, attempt_timeout=0.1)) as channel:
        call = method(channel, "stream_stream")()
        await call.write(b"a")
        await asyncio.sleep(0.3)
        await call.write(b"b")
        assert await call.read() == b"one"
        call.cancel()


# -- what the mesh refuses


def reason(error: grpc.aio.AioRpcError) -> str:
    assert isinstance(error, RpcFailed)
    for detail in rpc_status.from_call(error).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            assert info.domain == "proxyless"
            return str(info.reason)
    raise AssertionError("no ErrorInfo")


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


# -- endpoints come and go


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


# -- the channel itself


async def test_calls_before_the_channel_is_entered_fail_clearly(town):
    channel = town.channel()
    with pytest.raises(grpc.aio.UsageError, match="not entered"):
        method(channel)(b"")
    async with channel:
        pass
    with pytest.raises(grpc.aio.UsageError, match="closed"):
        method(channel)(b"")
    with pytest.raises(grpc.aio.UsageError, match="only once"):
        await channel.__aenter__()


async def test_a_channel_is_reached_by_address_alone(town):
    port = await town.open(Flaky("one"))
    for target in (f"127.0.0.1:{port}", f"static://127.0.0.1:{port}"):
        async with Channel(target, Policy()) as channel:
            assert await method(channel)(b"", timeout=5) == b"one"


async def test_a_stream_that_nobody_holds_is_cancelled(town):
    flaky = Flaky("one")
    await town.open(flaky)
    async with town.channel() as channel:

        async def watch_a_little() -> None:
            async for _ in method(channel, "unary_stream")(b""):
                return

        await watch_a_little()
        async with asyncio.timeout(5):
            while channel.active:
                gc.collect()
                await asyncio.sleep(0.005)


async def test_closing_leaves_no_task_behind(town):
    await town.open(Flaky("one"))
    before = len(asyncio.all_tasks())
    async with town.channel() as channel:
        assert await method(channel)(b"") == b"one"
        hanging = method(channel, "stream_stream")()
        await hanging.write(b"a")
    async with asyncio.timeout(5):
        while len(asyncio.all_tasks()) > before:
            await asyncio.sleep(0.005)
    assert hanging.cancelled()


# -- health


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


# -- fallback


async def test_a_fallback_says_that_it_is_one(town):
    await town.open(Flaky("one", grpc.StatusCode.UNAVAILABLE))
    async with town.channel(Policy(fallback=Fallback(value=b"instead"))) as channel:
        call = method(channel)(b"", timeout=5)
        assert await call == b"instead"
        assert await call.code() is grpc.StatusCode.OK
        assert dict(await call.trailing_metadata()) == {"mesh-fallback": "value"}


async def test_the_second_of_two_hedges_answers_for_a_hung_first(town):
    hung, quick = Flaky("hung"), Flaky("quick")
    hung.hold = asyncio.Event()
    await town.open(hung)
    await town.open(quick)
    policy = Policy(hedge=Hedge(attempts=2, delay=0.02), balance=RoundRobin())
    async with town.channel(policy) as channel:
        await ready(channel, "hung", "quick")
        replies = {await method(channel)(b"", metadata=KEY, timeout=5) for _ in range(4)}
        assert replies == {b"quick"}
        async with asyncio.timeout(5):
            while any(channel.memory.in_flight(name) for name in ("hung", "quick")):
                await asyncio.sleep(0.005)
        hung.hold.set()
