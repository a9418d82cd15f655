"""
Servers to be called: grpc.aio's, grpc's that blocks, and one of a process that can be killed.

    async with aio(echo) as address: ...        python -m tests.transport.served 127.0.0.1:50051

A reply is its request between brackets, so that nobody's reply can pass for another's.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

ECHO, HANG = "/test.Served/echo", "/test.Served/hang"
LARGE = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))


def expected(request: bytes) -> bytes:
    return b"<" + request + b">"


class Echo(grpc.GenericRpcHandler):
    """echo answers, hang does not; both are counted."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.deadlines: list[float | None] = []
        # The requests that a handler has seen.
        self.seen: list[bytes] = []

    def service(self, handler_call_details: Any) -> Any:
        name = handler_call_details.method.rpartition("/")[2]
        return grpc.unary_unary_rpc_method_handler(getattr(self, name))

    async def echo(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        return expected(request)

    async def slow(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        self.seen.append(request)
        await asyncio.sleep(0.002)
        return expected(request)

    async def fails(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.ABORTED, "no")
        raise AssertionError

    async def hang(self, request: bytes, context: Any) -> bytes:
        self.calls += 1
        self.deadlines.append(context.time_remaining())
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError


class BlockingEcho(Echo):
    """The same in threads."""

    def echo(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        self.calls += 1
        return expected(request)

    def hang(self, request: bytes, context: Any) -> bytes:  # type: ignore[override]
        self.calls += 1
        import threading

        ended = threading.Event()
        context.add_callback(ended.set)
        if ended.wait(20.0):
            self.cancelled += 1
        return b""


@asynccontextmanager
async def aio(
    echo: Echo, address: str = "127.0.0.1:0", *, options: Sequence[tuple[str, Any]] = ()
) -> AsyncIterator[str]:
    """A grpc.aio server, and where it is."""
    server = grpc.aio.server(handlers=(echo,), options=(*LARGE, *options))
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(0)


@asynccontextmanager
async def blocking(echo: Echo) -> AsyncIterator[str]:
    """grpc's own server of threads."""
    server = grpc.server(ThreadPoolExecutor(8), handlers=(echo,), options=LARGE)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        stopped = server.stop(0)
        await asyncio.get_running_loop().run_in_executor(None, stopped.wait, 10)


@asynccontextmanager
async def process(address: str = "127.0.0.1:0") -> AsyncIterator[tuple[str, Any]]:
    """A grpc.aio server of its own process, killed at the end where it is not yet."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.transport.served", address), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert child.stdout is not None
        async with asyncio.timeout(30):
            said = (await child.stdout.readline()).decode().strip()
        yield said, child
    finally:
        if child.returncode is None:
            child.kill()
        await child.wait()


async def main(address: str) -> None:
    async with aio(Echo(), address, options=(("grpc.so_reuseport", 0),)) as found:
        print(found, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
