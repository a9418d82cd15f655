"""Where grpcio leads toy implementations astray, over real sockets: one test a trap."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import Any, NamedTuple

import grpc
import grpc.aio
import pytest

import mesh
from mesh import Policy
from tests.loopback.conftest import World
from tests.loopback.town import KEY, QUICK, Flaky, Town, method

NATIVE = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "0.01s",
                "backoffMultiplier": 1,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


async def test_grpcs_own_retries_do_not_multiply_ours(town: Town) -> None:
    flaky = Flaky("one", *[grpc.StatusCode.UNAVAILABLE] * 100)
    await town.open(flaky)
    options = (("grpc.service_config", json.dumps(NATIVE)),)
    async with town.channel(Policy(retry=QUICK), options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await method(channel)(b"", metadata=KEY, timeout=5)

    assert len(flaky.seen) == QUICK.attempts
    counted = [seen.get("grpc-previous-rpc-attempts") for seen in flaky.seen]
    assert counted == [None, "1", "2", "3"]


class Details(NamedTuple):
    """What an interceptor nearer to the wire saw of a call."""

    timeout: float | None
    metadata: tuple[Any, ...]
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class Seeing(grpc.aio.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    """Beside ours on the same channel; asks for the code before the reply, which once hung."""

    def __init__(self) -> None:
        self.seen: list[Details] = []
        self.codes: list[grpc.StatusCode] = []

    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        details = client_call_details
        self.seen.append(
            Details(
                details.timeout,
                tuple(details.metadata or ()),
                details.credentials,
                details.wait_for_ready,
                getattr(details, "compression", None),
            )
        )
        call = await continuation(details, request)
        self.codes.append(await call.code())
        return call


async def test_an_interceptor_hands_on_every_field_of_a_call(world: World) -> None:
    seeing = Seeing()
    ours = mesh.interceptors(Policy())
    pairs = (("a", "1"), ("a", "2"), ("a-bin", b"\0\xff"))
    address = f"127.0.0.1:{world.port}"
    async with grpc.aio.insecure_channel(address, interceptors=[*ours, seeing]) as channel:
        call = world.call(channel, "unary_unary_echo")(
            b"hi", timeout=5.0, metadata=pairs, wait_for_ready=True
        )
        assert await call == b"hi"
    (details,) = seeing.seen

    assert details.timeout is not None
    assert 4.0 < details.timeout <= 5.0
    assert [pair for pair in details.metadata if pair[0].startswith("a")] == list(pairs)
    assert details.wait_for_ready is True
    sent = [pair for pair in world.service.seen[0] if pair[0] in ("a", "a-bin")]
    assert sorted(sent) == sorted(pairs)


class Blocked(grpc.UnaryUnaryClientInterceptor):  # type: ignore[type-arg]
    def __init__(self) -> None:
        self.seen: list[Details] = []

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        details = client_call_details
        self.seen.append(
            Details(
                details.timeout,
                tuple(details.metadata or ()),
                details.credentials,
                details.wait_for_ready,
                details.compression,
            )
        )
        return continuation(details, request)


async def test_a_blocking_interceptor_hands_on_every_field_of_a_call(world: World) -> None:
    blocked = Blocked()
    pairs = (("a", "1"), ("a", "2"), ("a-bin", b"\0\xff"))

    def work() -> bytes:
        with grpc.insecure_channel(f"127.0.0.1:{world.port}") as plain:
            channel = grpc.intercept_channel(plain, *mesh.sync_interceptors(Policy()), blocked)
            reply: bytes = world.call(channel, "unary_unary_echo")(
                b"hi",
                timeout=5.0,
                metadata=pairs,
                wait_for_ready=True,
                compression=grpc.Compression.Gzip,
            )
            return reply

    assert await asyncio.to_thread(work) == b"hi"
    (details,) = blocked.seen
    assert details.timeout is not None
    assert 4.0 < details.timeout <= 5.0
    assert [pair for pair in details.metadata if pair[0].startswith("a")] == list(pairs)
    assert (details.wait_for_ready, details.compression) == (True, grpc.Compression.Gzip)


async def test_the_code_can_be_awaited_in_an_interceptor_on_either_side_of_ours(
    world: World,
) -> None:
    for around in (True, False):
        seeing, ours = Seeing(), mesh.interceptors(Policy())
        chain = [seeing, *ours] if around else [*ours, seeing]
        address = f"127.0.0.1:{world.port}"
        async with (
            asyncio.timeout(5),
            grpc.aio.insecure_channel(address, interceptors=chain) as channel,
        ):
            assert await world.call(channel, "unary_unary_echo")(b"hi") == b"hi"
        assert seeing.codes == [grpc.StatusCode.OK]


async def test_an_intercepted_stream_is_still_a_call(
    world: World, intercepted: grpc.aio.Channel
) -> None:
    """Wrapped in a generator it would be one no more: nobody could ask for its headers or code."""
    async with asyncio.timeout(5):
        call = world.call(intercepted, "unary_stream_count")(b"2")
        assert ("head", "1") in tuple(await call.initial_metadata())
        assert [await call.read(), await call.read()] == [b"0", b"1"]
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        assert tuple(await call.trailing_metadata()) == (("tail", "1"),)
        assert call.done()


class Peers(Flaky):
    """Notes which connection each call came by."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.peers: set[str] = set()

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        self.peers.add(context.peer())
        return await super().unary_unary(request, context)


async def test_each_channel_has_a_connection_of_its_own(town: Town) -> None:
    """grpc's global pool would give all of a process's channels to one address a single one."""
    peers = Peers("one")
    port = await town.open(peers)
    await town.register("one-again", port)
    async with town.channel() as channel, town.channel() as other:
        for each in (channel, other):
            await each.channel_ready()
            for _ in range(10):
                await method(each)(b"", timeout=5)

    assert len(peers.peers) == 4  # two channels to two endpoints, which are one server


PROGRAM = """
import os, sys
import mesh
from mesh import Policy

with mesh.SyncChannel(sys.argv[1], Policy()) as channel:
    ask = channel.unary_unary("/town.Hall/unary_unary")
    assert ask(b"", timeout=5) == b"one"
    child = os.fork()
    if child == 0:
        try:
            ask(b"", timeout=5)
        except ValueError as error:
            os.write(1, str(error).encode())
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert ask(b"", timeout=5) == b"one"
"""


async def test_a_channel_from_before_a_fork_says_so_instead_of_hanging(town: Town) -> None:
    """
    Without C-core's own fork handlers: where another thread is in the core as the process forks,
    "skipping fork() handlers", one in six children dies of a native thread of theirs (SIGSEGV).
    """
    port = await town.open(Flaky("one"))
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, f"127.0.0.1:{port}",
        env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "false"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, errors = await program.communicate()

    assert program.returncode == 0, errors.decode()
    assert b"was opened before a fork: open one in the child" in out


async def test_an_asyncio_channel_says_so_too(town: Town) -> None:
    await town.open(Flaky("one"))
    async with town.channel() as channel:
        assert await method(channel)(b"", timeout=5) == b"one"
        channel.forked()  # what a child does first
        with pytest.raises(grpc.aio.UsageError, match="opened before a fork"):
            await method(channel)(b"", timeout=5)
        channel._state = "open"


class Refusing(Flaky):
    """Ends a stream of requests at its first message."""

    async def stream_unary(self, requests: Any, context: Any) -> bytes:
        async for _ in requests:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first one is wrong")
        return b""


async def test_a_status_that_meets_a_write_on_its_way_stays_the_status(town: Town) -> None:
    """grpc.aio's own write makes INTERNAL, "Internal error from Core", of about every fifteenth."""
    await town.open(Refusing("one"))
    seen: set[tuple[str, str]] = set()
    async with town.channel(Policy()) as channel:
        for _ in range(200):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await method(channel, "stream_unary")([b"x" * 200] * 20, timeout=10)
            seen.add((caught.value.code().name, caught.value.details()))

    assert seen == {("INVALID_ARGUMENT", "the first one is wrong")}
