"""
What a request costs at the gateway, beside the FastAPI way and Envoy's transcoder in one run.

    scripts/bench --gateway [--cycles 6] [--seconds 1.2] [--json]

Whoever is measured has the first core to itself; the load and the backend share the second, where
both together need a fraction of what a gateway does.  All are alive at once and take turns in
short windows, shuffled anew each cycle, so that a host that slows down slows all alike; a ratio is
the median of its cycles.  CPU is user and system time of the process tree.  Before the load each
gateway's answer is compared with the expected JSON, and under load each body with that one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import uvloop

from scripts.measuring import orders
from scripts.measuring.gateways import FASTAPI, Running, rivals
from scripts.measuring.load import Window, WrongAnswer, load, once

# Name, request, connections.
SCENES = (
    ("POST, 32 connections", orders.POST, 32),
    ("GET, 32 connections", orders.GET, 32),
    ("POST, one after another", orders.POST, 1),
)
WARM_SECONDS = 0.7
READY_SECONDS = 20.0


@dataclass(slots=True)
class Found:
    """What one gateway's windows of one scene came to."""

    cpu: list[float] = field(default_factory=list)  # us a request, by window
    rate: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)

    def add(self, window: Window, cpu: float) -> None:
        self.cpu.append(cpu / len(window.latencies) * 1e6)
        self.rate.append(window.rate)
        self.latencies += window.latencies


async def measure(cycles: int, seconds: float) -> dict[str, dict[str, Found]]:
    """By scene and gateway."""
    cores = sorted(os.sched_getaffinity(0))
    core, other = cores[0], cores[-1]
    os.sched_setaffinity(0, {other})
    if core == other:
        print("bench: there is one core, which all share")
    async with _backend() as port, rivals(port, core) as running:
        bodies = {name: await _ready(gateway) for name, gateway in running.items()}
        found = {scene: {name: Found() for name in running} for scene, _, _ in SCENES}
        for cycle in range(cycles + 1):  # the first one warms up
            turns = [(scene, name) for scene in SCENES for name in running]
            for (scene, request, connections), name in random.sample(turns, len(turns)):
                gateway, body = running[name], bodies[name]
                lasts = seconds if cycle else WARM_SECONDS
                before = gateway.cpu()
                window = await load(gateway.port, request, body, connections, lasts)
                if cycle:
                    found[scene][name].add(window, gateway.cpu() - before)
    return found


@asynccontextmanager
async def _backend() -> AsyncIterator[int]:
    """The port of a backend in a process of its own, beside the load."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scripts.measuring.backend"), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield int(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def _ready(gateway: Running) -> bytes:
    """The gateway's answer once it knows its routes; the expected one, to both requests."""
    async with asyncio.timeout(READY_SECONDS):
        while True:
            try:
                body = await once(gateway.port, orders.GET, orders.ANSWER)
                break
            except (WrongAnswer, OSError):
                await asyncio.sleep(0.1)
    if await once(gateway.port, orders.POST, orders.ANSWER) != body:
        raise RuntimeError("GET and POST are answered differently")
    return body


def report(found: dict[str, dict[str, Found]]) -> dict[str, Any]:
    """Print the tables; what they say, as data."""
    said: dict[str, Any] = {}
    for scene, gateways in found.items():
        print(f"\n{scene:24} CPU us   x FastAPI (quartiles)      req/s   p50 ms   p99 ms")
        for name, of in gateways.items():
            ratios = [a / b for a, b in zip(of.cpu, gateways[FASTAPI].cpu, strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            cpu, rate = statistics.median(of.cpu), statistics.median(of.rate)
            ranked = sorted(of.latencies)
            p50, p99 = (ranked[int(len(ranked) * q)] * 1e3 for q in (0.5, 0.99))
            print(
                f"  {name:20} {cpu:8.0f}     {ratio:6.3f} ({low:.3f} to {high:.3f})"
                f" {rate:10.0f} {p50:8.2f} {p99:8.2f}"
            )
            said.setdefault(scene, {})[name] = {
                "cpu_us": cpu,
                "ratio": ratio,
                "requests_per_second": rate,
                "p50_ms": p50,
                "p99_ms": p99,
            }
    return said


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="bench --gateway", description=__doc__.partition("\n\n")[0]
    )
    parser.add_argument("--cycles", type=int, default=6, help="how often each takes its turn")
    parser.add_argument("--seconds", type=float, default=1.2, help="of each window")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    asked = parser.parse_args(arguments)
    said = report(uvloop.run(measure(max(2, asked.cycles), asked.seconds)))
    if asked.json:
        print(json.dumps(said, indent=2))
    return 0
