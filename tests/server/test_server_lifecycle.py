"""How a server comes and goes: registered after it listens, gone before it stops, no call lost."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from discovery.memory import MemoryRegistry
from mesh.errors import PolicyError
from mesh.server import Limits, Server
from mesh.server.address import reachable
from mesh.status import from_error
from tests.server.echo import SERVICE, Echo, EchoStub, Text

SERVING = health_pb2.HealthCheckResponse.SERVING
Status = health_pb2.HealthCheckResponse.ServingStatus
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def health_of(channel: grpc.aio.Channel, service: str = "") -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)).status


class Slow(Echo):
    """Say answers when it is let go; Count never ends."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()

    async def Say(self, request, context):
        self.begun.set()
        await self.release.wait()
        return request

    async def Count(self, request, context):
        yield request
        self.begun.set()
        await asyncio.Event().wait()


async def test_a_server_registers_what_it_serves_under_an_address_that_can_be_called():
    registry = MemoryRegistry()
    server = Server("echo", [Echo()], registry=registry)
    listed = {"instance": 1, "tags": ("v2",), "meta": {"zone": "a"}, "weight": 3}
    async with server.serving(**listed) as address:
        (endpoint,) = (await anext(registry.watch("echo"))).endpoints
        assert endpoint.address == address
        assert endpoint.id == f"echo-{socket.gethostname()}-1"
        assert endpoint.tags == ("v2", "grpc")
        told = {"grpc_services": SERVICE, "max_connection_age": "1800"}
        assert endpoint.meta == {"zone": "a", **told}
        assert endpoint.weight == 3
    assert (await anext(registry.watch("echo"))).endpoints == ()


async def test_when_it_is_in_the_registry_it_already_answers():
    registry = MemoryRegistry()

    async def first_call() -> str:
        async for snapshot in registry.watch("echo"):
            for endpoint in snapshot.endpoints:
                async with grpc.aio.insecure_channel(endpoint.address) as channel:
                    return (await EchoStub(channel).Say(Text(text="hello"))).text
        raise AssertionError

    caller = asyncio.create_task(first_call())
    async with Server("echo", [Echo()], registry=registry).serving():
        assert await asyncio.wait_for(caller, 5) == "hello"


async def test_health_speaks_for_the_whole_and_for_each_service():
    async with (
        Server("echo", [Echo()]).serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        assert await health_of(channel) == SERVING
        assert await health_of(channel, SERVICE) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await health_of(channel, "no.such.Service")
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
        listed = await health_pb2_grpc.HealthStub(channel).List(health_pb2.HealthListRequest())
        assert set(listed.statuses) == {"", SERVICE}
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="no.such.Service")
        )
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


async def test_draining_keeps_its_order_and_loses_no_call():
    """NOT_SERVING, then out of the registry, then still serving, then gone; 0 calls fail."""
    said: list[str] = []
    heard: list[str] = []
    registry = MemoryRegistry()
    stop = asyncio.Event()
    known = asyncio.Event()
    failed: list[str] = []
    answered = 0

    async def watch_health(address: str) -> None:
        async with grpc.aio.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            while (each := await watch.read()) is not grpc.aio.EOF:
                heard.append(Status.Name(each.status))
            said.append("watch ended")

    async def watch_registry() -> None:
        """A client that learns late: it goes on calling for 0.3 s after the change."""
        async for snapshot in registry.watch("echo"):
            if snapshot.endpoints:
                known.set()
            elif known.is_set():
                async with grpc.aio.insecure_channel(address) as channel:
                    status = await health_of(channel)
                said.append(f"deregistered while {Status.Name(status)}")
                await asyncio.sleep(0.3)
                stop.set()
                return

    async def load(address: str) -> None:
        nonlocal answered
        async with grpc.aio.insecure_channel(address) as channel:
            stub = EchoStub(channel)
            while not stop.is_set():
                try:
                    await stub.Say(Text(text="x"), timeout=5)
                    answered += 1
                except grpc.aio.AioRpcError as error:
                    failed.append(str(error.code()))

    follower = asyncio.create_task(watch_registry())
    server = Server("echo", [Echo()], registry=registry)
    async with server.serving(drain_seconds=0.6) as address:
        health = asyncio.create_task(watch_health(address))
        callers = [asyncio.create_task(load(address)) for _ in range(4)]
        await asyncio.wait_for(known.wait(), 5)
        while not (heard and answered):
            await asyncio.sleep(0.01)
    await asyncio.wait_for(asyncio.gather(follower, health, *callers), 10)

    assert heard == ["SERVING", "NOT_SERVING"]
    assert said == ["deregistered while NOT_SERVING", "watch ended"]
    assert failed == []
    assert answered > 20


async def test_a_call_in_flight_is_finished_before_the_server_stops():
    slow = Slow()
    serving = Server("echo", [slow]).serving(grace=5.0)
    async with grpc.aio.insecure_channel(await serving.__aenter__()) as channel:
        call = EchoStub(channel).Say(Text(text="last"))
        answer = asyncio.ensure_future(call.code())
        await asyncio.wait_for(slow.begun.wait(), 5)
        leaving = asyncio.create_task(serving.__aexit__(None, None, None))
        done, _ = await asyncio.wait({leaving}, timeout=0.2)
        assert not done
        slow.release.set()
        assert await asyncio.wait_for(answer, 5) is grpc.StatusCode.OK
        await asyncio.wait_for(leaving, 5)


async def test_an_endless_stream_is_told_to_go_elsewhere_and_holds_nobody_up():
    slow = Slow()
    serving = Server("echo", [slow]).serving(grace=30.0)
    async with grpc.aio.insecure_channel(await serving.__aenter__()) as channel:
        stream = EchoStub(channel).Count(Text(text="watch"))
        await stream.read()
        await asyncio.wait_for(slow.begun.wait(), 5)
        start = time.monotonic()
        leaving = asyncio.create_task(serving.__aexit__(None, None, None))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stream.read()
        await asyncio.wait_for(leaving, 10)
    said = from_error(caught.value)
    assert (said.code.name, said.reason) == ("UNAVAILABLE", "SERVER_STOPPING")
    assert time.monotonic() - start < 5


async def test_a_call_that_outlives_its_grace_is_cancelled():
    slow = Slow()
    serving = Server("echo", [slow]).serving(grace=0.2)
    async with grpc.aio.insecure_channel(await serving.__aenter__()) as channel:
        call = asyncio.ensure_future(EchoStub(channel).Say(Text()).code())
        await asyncio.wait_for(slow.begun.wait(), 5)
        await asyncio.wait_for(serving.__aexit__(None, None, None), 5)
        assert await call in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)


async def test_a_registry_that_hangs_does_not_hold_up_the_stop():
    class Hangs(MemoryRegistry):
        def remove(self, instance):
            pass

        def register(self, instance):
            registered = super().register(instance)

            class Stuck:
                async def __aenter__(self):
                    self.inner = await registered.__aenter__()
                    return self

                async def __aexit__(self, *why):
                    return await registered.__aexit__(*why)

                async def leave(self):
                    await asyncio.Event().wait()

            return Stuck()

    start = time.monotonic()
    async with Server("echo", [Echo()], registry=Hangs()).serving():
        pass
    assert time.monotonic() - start < 11


async def test_a_busy_port_says_so():
    async with Server("echo", [Echo()]).serving() as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(OSError, match=address) as busy:
            async with Server("echo", [Echo()]).serving(port=port):
                pass
    assert busy.value.errno == errno.EADDRINUSE


async def test_the_same_port_is_free_again_after_a_stop():
    server = Server("echo", [Echo()])
    async with server.serving() as address:
        port = int(address.rpartition(":")[2])
    async with (
        server.serving(port=port) as again,
        grpc.aio.insecure_channel(again) as channel,
    ):
        assert again == address
        assert (await EchoStub(channel).Say(Text(text="back"))).text == "back"


@pytest.mark.parametrize(
    ("host", "advertise", "expected"),
    [("127.0.0.1", "", "127.0.0.1"), ("0.0.0.0", "orders-1", "orders-1"), ("::1", "", "::1")],
)
def test_the_registered_host_can_be_called(host, advertise, expected):
    assert reachable(host, advertise) == expected


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_every_interface_is_never_registered_as_an_address(host):
    assert reachable(host) not in ("", "0.0.0.0", "::")


def test_limits_name_the_bound_that_makes_no_sense():
    with pytest.raises(PolicyError, match=r"max_concurrent_streams: 0 is not above 0"):
        Limits(max_concurrent_streams=0)


async def test_a_message_larger_than_the_limit_is_refused_and_the_server_lives():
    async with (
        Server("echo", [Echo()], limits=Limits(max_receive_message_size=1000)).serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        echo = EchoStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await echo.Say(Text(request_id="x" * 2000))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await echo.Say(Text(), metadata=(("long", "x" * 40_000),))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert (await echo.Say(Text(text="fine"))).text == "fine"


PROGRAM = """
import asyncio, sys
sys.path.insert(0, {root!r})
from discovery.memory import MemoryRegistry
from mesh.server import Server
from tests.server.echo import Echo

class Slow(Echo):
    async def Say(self, request, context):
        print("begun", flush=True)
        await asyncio.sleep(request.number)
        return request

asyncio.run(Server("echo", [Slow()], registry=MemoryRegistry()).run(
    drain_seconds=0.3, grace={grace}, started=lambda address: print(address, flush=True)))
print("drained", flush=True)
"""


class Process:
    """The program above, with the first line it said: its address."""

    def __init__(self, grace: float) -> None:
        self._program = PROGRAM.format(root=str(Path.cwd()), grace=grace)

    async def __aenter__(self) -> Process:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", self._program, stdout=asyncio.subprocess.PIPE
        )
        self.address = await self.line()
        return self

    async def __aexit__(self, *why: Any) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()

    async def line(self) -> str:
        assert self.process.stdout is not None
        return (await asyncio.wait_for(self.process.stdout.readline(), 20)).decode().strip()


@pytest.mark.parametrize("ask", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_drains_the_process_and_the_call_in_flight_is_answered(ask):
    async with Process(grace=5.0) as program, grpc.aio.insecure_channel(program.address) as channel:
        call = asyncio.ensure_future(EchoStub(channel).Say(Text(number=1)).code())
        assert await program.line() == "begun"
        program.process.send_signal(ask)
        assert await asyncio.wait_for(call, 10) is grpc.StatusCode.OK
        assert await program.line() == "drained"
        assert await asyncio.wait_for(program.process.wait(), 10) == 0


async def test_a_second_signal_stops_at_once():
    async with (
        Process(grace=60.0) as program,
        grpc.aio.insecure_channel(program.address) as channel,
    ):
        call = asyncio.ensure_future(EchoStub(channel).Say(Text(number=60)).code())
        assert await program.line() == "begun"
        program.process.send_signal(signal.SIGTERM)
        while await health_of(channel) != NOT_SERVING:
            await asyncio.sleep(0.01)
        start = time.monotonic()
        program.process.send_signal(signal.SIGTERM)
        assert await program.line() == "drained"
        assert await asyncio.wait_for(program.process.wait(), 10) == 0
        assert time.monotonic() - start < 3
        assert await asyncio.wait_for(call, 10) is not grpc.StatusCode.OK
