"""
What discovery costs at scale: an embedded agent with ten thousand instances, and who watches them.

    .venv/bin/python -m scripts.measuring.discovery [--services 1000] [--instances 10] [--json]

many    SERVICES x INSTANCES in one agent; one of them changes, and a watch of its service sees it
one     all of them under one name: from the change to the first pick that knows it
links   real connections of one client; one endpoint changes, and that many channels are opened
hears   how soon a watcher hears of a change, beside the real Consul (see watchers.py)

Delays are from before the change is sent to after it is known; CPU is user and system time of the
agent's process and of this one, for each change.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import grpc.aio

from discovery import Endpoint, Registry, Snapshot, connect
from mesh.call import Call, Method
from mesh.client.pool import Pool
from mesh.column import Memory
from scripts.measuring import watchers
from scripts.measuring.agents import AT_ONCE, Agent, embedded, pss

CHANGES = 100
LINKS = 200
Findings = dict[str, float]


async def registered(measured: Agent, names: list[tuple[str, int]]) -> float:
    """Register them all; how many a second."""
    begun, waiting = time.perf_counter(), iter(names)

    async def worker() -> None:
        for name, number in waiting:
            await measured.register(name, number)

    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return len(names) / (time.perf_counter() - begun)


async def changes(
    measured: Agent, registry: Registry, chosen: list[tuple[str, int]], know: Callable[[Any], None]
) -> Findings:
    """One instance after the other falls and rises again; `know` is what a client does with it."""
    delays = []
    agent_cpu, own_cpu = measured.cpu(), time.process_time()
    for name, number in chosen:
        snapshots = cast(AsyncGenerator[Snapshot, None], registry.watch(name))
        async with aclosing(snapshots) as watch:
            know(await anext(watch))
            for verb in ("fail", "pass"):
                seen = asyncio.ensure_future(anext(watch))
                await asyncio.sleep(0.02)  # so that the query blocks, as in life
                begun = time.perf_counter()
                path = f"/v1/agent/check/{verb}/service:{name}-{number}"
                told = asyncio.ensure_future(measured.put(path))
                know(await seen)
                delays.append(time.perf_counter() - begun)
                await told
    count = len(delays)
    return {
        "delay ms p50": 1e3 * statistics.median(delays),
        "delay ms p99": 1e3 * sorted(delays)[int(count * 0.99)],
        "agent CPU ms": 1e3 * (measured.cpu() - agent_cpu) / count,
        "client CPU ms": 1e3 * (time.process_time() - own_cpu) / count,
        "agent MB": measured.megabytes(),
        "client MB": pss(),
    }


async def many(services: int, instances: int) -> Findings:
    names = [(f"service-{one}", number) for one in range(services) for number in range(instances)]
    async with embedded() as measured, connect(measured.url) as registry:
        idle = measured.megabytes()
        rate = await registered(measured, names)
        found = await changes(measured, registry, names[:: len(names) // CHANGES], lambda _: None)
    return {"registered a second": rate, "agent MB idle": idle} | found


async def one(endpoints: int) -> Findings:
    memory, call = Memory(), Call(Method("/bench.Echo/Say"))

    def know(snapshot: Snapshot) -> None:
        """Up to the first pick: every endpoint counts as connected, whoever is new included."""
        before = memory.pool.members.keys()
        new = [found for found in snapshot.endpoints if found.id not in before]
        memory.publish(snapshot)
        for endpoint in new:
            memory.set_ready(endpoint.id, True)
        assert memory.pick(call, 0.0) is not None

    names = [("orders", number) for number in range(endpoints)]
    async with embedded() as measured, connect(measured.url) as registry:
        await registered(measured, names)
        return await changes(measured, registry, names[:: endpoints // 10], know)


async def links(count: int = LINKS) -> Findings:
    """A client with so many real connections; each change moves one endpoint to a new address."""
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    second = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    ready, all_ready = set[str](), asyncio.Event()

    def hear(endpoint: Endpoint, well: bool | None) -> None:
        if well:
            ready.add(endpoint.id)
        if len(ready) == count:
            all_ready.set()

    pool = Pool(hear)
    endpoints = [Endpoint(f"orders-{number}", "127.0.0.1", port) for number in range(count)]
    pool.follow(endpoints)
    await all_ready.wait()
    before, opened = dict(pool.links), 0
    begun = time.process_time()
    for number in range(10):
        endpoints[number] = replace(endpoints[number], port=second)
        pool.follow(endpoints)
        opened += sum(pool.links[name] is not link for name, link in before.items())
        before = dict(pool.links)
    spent = time.process_time() - begun
    await pool.close()
    await server.stop(0)
    return {"links": count, "opened a change": opened / 10, "client CPU ms": 1e3 * spent / 10}


async def measure(services: int, instances: int) -> dict[str, Findings]:
    """All parts; prints each as it is known."""
    said: dict[str, Findings] = {}
    parts: list[tuple[str, Callable[[], Awaitable[Findings]]]] = [
        (f"many: {services} services x {instances}", lambda: many(services, instances)),
        (f"one: {services * instances} endpoints", lambda: one(services * instances)),
        (f"links: {LINKS} connections", links),
        ("hears: fail or pass to the watcher", watchers.beside),
    ]
    for name, part in parts:
        said[name] = await part()
        print(name)
        for what, value in said[name].items():
            print(f"    {what:30} {value:10.2f}", flush=True)
    return said


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="discovery", description=__doc__.partition("\n\n")[0])
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--instances", type=int, default=10, help="of each service")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    asked = parser.parse_args(arguments)
    found = asyncio.run(measure(asked.services, asked.instances))
    if asked.json:
        print(json.dumps(found, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
