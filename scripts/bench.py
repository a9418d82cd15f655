"""
What the column costs a call, beside a bare grpc.aio channel in the same run.

    scripts/bench [--seconds 30] [--json]

The calling process runs alone on the first core, the echo server on the second.  All variants live
in one process and take turns in short blocks, shuffled anew each cycle; a ratio is the median of
its cycles' ratios to the bare channel, so that a host that slows down slows all alike.  CPU and
instructions are taken in separate passes: counting makes context switches dear.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import BytesValue

from discovery.memory import MemoryRegistry
from discovery.model import Instance
from mesh.client.channel import Channel
from mesh.client.intercept import interceptors
from mesh.policy.config import Policy
from scripts.measuring.instructions import Counter

METHOD = "/bench.Echo/Say"
REQUEST = BytesValue(value=b"x" * 145)
BARE = "bare"
BLOCK_SECONDS = 0.1
CONCURRENCIES = (1, 64)
Say = Callable[[], Awaitable[Any]]


class Echo(grpc.GenericRpcHandler):
    """Gives back the bytes it gets."""

    def service(self, handler_call_details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(self._say)

    async def _say(self, request: bytes, context: Any) -> bytes:
        return request


async def serve() -> None:
    """Echo on three ports, until standard input closes; prints them."""
    _pin(1)
    server = grpc.aio.server(handlers=(Echo(),))
    ports = [server.add_insecure_port("127.0.0.1:0") for _ in range(3)]
    await server.start()
    print(*ports, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(0)


async def variants(stack: AsyncExitStack, ports: list[int]) -> dict[str, Say]:
    """Everything that is compared, by name."""
    first = f"127.0.0.1:{ports[0]}"
    # A bare channel as a careful user sets it up: a deadline on each call, no second retrier.
    options = (("grpc.enable_retries", 0),)
    one, three = MemoryRegistry(), MemoryRegistry()
    for port in ports:
        instance = Instance("echo", "127.0.0.1", port)
        await stack.enter_async_context(three.register(instance))
        if port == ports[0]:
            await stack.enter_async_context(one.register(instance))
    policy = Policy.production()
    channels: dict[str, Any] = {
        BARE: grpc.aio.insecure_channel(first, options),
        "mesh, no rules": Channel("echo", Policy(), registry=one),
        "mesh, production policy": Channel("echo", policy, registry=one),
        "mesh, production, 3 endpoints": Channel("echo", policy, registry=three),
        "interceptor that does nothing": grpc.aio.insecure_channel(
            first, options, interceptors=[Nothing()]
        ),
        "mesh.interceptors, production": grpc.aio.insecure_channel(
            first, options, interceptors=interceptors(policy)
        ),
    }
    says: dict[str, Say] = {}
    for name, channel in channels.items():
        opened = await stack.enter_async_context(channel)
        await opened.channel_ready()
        says[name] = _saying(opened)
    return says


def _saying(channel: grpc.aio.Channel) -> Say:
    say: Any = channel.unary_unary(METHOD, BytesValue.SerializeToString, BytesValue.FromString)
    return lambda: say(REQUEST, timeout=10.0)


class Nothing(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return await continuation(client_call_details, request)


async def measure(
    ports: list[int], seconds: float, used: Callable[[], float]
) -> dict[str, dict[str, list[float]]]:
    """Per concurrency and variant, what each block used per call."""
    found: dict[str, dict[str, list[float]]] = {}
    async with AsyncExitStack() as stack:
        says = await variants(stack, ports)
        for say in says.values():
            await _block(say, 8, 0.2)
        for concurrency in CONCURRENCIES:
            blocks: dict[str, list[float]] = {name: [] for name in says}
            ends = time.monotonic() + seconds / len(CONCURRENCIES)
            while time.monotonic() < ends:
                for name in random.sample(list(says), len(says)):
                    before = used()
                    calls = await _block(says[name], concurrency, BLOCK_SECONDS)
                    blocks[name].append((used() - before) / calls)
            found[f"c{concurrency}"] = blocks
    return found


async def _block(say: Say, concurrency: int, seconds: float) -> int:
    calls, ends = 0, time.monotonic() + seconds

    async def caller() -> None:
        nonlocal calls
        while time.monotonic() < ends:
            await say()
            calls += 1

    if concurrency == 1:
        await caller()
    else:
        await asyncio.gather(*(caller() for _ in range(concurrency)))
    return calls


def _pin(core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[core % len(cores)]})


def work(what: str, ports: list[int], seconds: float) -> int:
    """One pass in this process, its findings as JSON on standard output."""
    _pin(0)
    if what == "cpu":
        found = asyncio.run(measure(ports, seconds, lambda: time.process_time() * 1e6))
    else:
        # Opened before grpc starts its threads, or these would not be counted.
        with Counter() as counter:
            found = asyncio.run(measure(ports, seconds, lambda: counter.read() / 1e3))
    json.dump(found, sys.stdout)
    return 0


def report(unit: str, found: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    """Print one table; what it says, as data."""
    said: dict[str, Any] = {}
    for concurrency, blocks in found.items():
        print(f"\n{unit} per call, {concurrency[1:]} in flight")
        for name, values in blocks.items():
            ratios = [value / bare for value, bare in zip(values, blocks[BARE], strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            median = statistics.median(values)
            print(f"  {name:32} {median:8.1f}   x {ratio:.3f}  ({low:.3f} to {high:.3f})")
            said.setdefault(concurrency, {})[name] = {"median": median, "ratio": ratio}
    return said


def _pass(what: str, ports: str, seconds: float) -> dict[str, dict[str, list[float]]] | None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "scripts.bench",
            "--work",
            what,
            "--ports",
            ports,
            "--seconds",
            str(seconds),
        ],
        stdout=subprocess.PIPE,
        check=False,
        timeout=seconds * 3 + 60,
    )
    found: dict[str, dict[str, list[float]]] | None = (
        json.loads(done.stdout) if done.returncode == 0 else None
    )
    return found


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--seconds", type=float, default=30.0, help="of each of the two passes")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    parser.add_argument("--work", choices=("serve", "cpu", "count"), help=argparse.SUPPRESS)
    parser.add_argument("--ports", default="", help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.work == "serve":
        asyncio.run(serve())
        return 0
    if asked.work:
        return work(asked.work, [int(port) for port in asked.ports.split()], asked.seconds)
    said: dict[str, Any] = {}
    with subprocess.Popen(
        [sys.executable, "-m", "scripts.bench", "--work", "serve"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stdout is not None
        ports = server.stdout.readline().strip()
        for what, unit in (("cpu", "CPU us"), ("count", "thousand instructions")):
            if what == "count" and not Counter.allowed():
                print("\nbench: this host does not let us count instructions; CPU only")
                continue
            found = _pass(what, ports, asked.seconds)
            if found is None:
                print(f"bench: the {what} pass failed", file=sys.stderr)
                return 1
            said[what] = report(unit, found)
        assert server.stdin is not None
        server.stdin.close()
    if asked.json:
        print(json.dumps(said, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
