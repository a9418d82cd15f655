"""
Orders a second, end to end, on SQLite and on PostgreSQL: four service processes, durable commits.

    scripts/bench_orders [--seconds 30] [--at-once 64] [--folder DIR] [--json]

Each order is placed over gRPC and answered when it is CONFIRMED: stock reserved and sold, card
charged, ten commits one after another in three databases.  The stands take turns in short blocks,
so that a host that slows down slows all alike:

    disk      files, or a PostgreSQL's cluster, where --folder says
    memory    the same in /dev/shm, where a commit costs nothing: what is missing is commits' share
    slow      SQLite's, and strace makes every fdatasync take SLOW_MILLISECONDS, as disks of clouds
              do; left out where strace can't be had

An order costs CPU too, one at a time more than many at once.  What group commit is worth where
nothing but commits costs is measured beside it: transactions alone, and sagas that ask nobody.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
from google.type.money_pb2 import Money
from shop.inventory.v1 import InventoryServiceStub, Product
from shop.orders.v1 import CreateOrderRequest, Order, OrderServiceStub, OrderStatus

import discovery
import mesh
from scripts import parts
from scripts.crashing.house import HOST, SERVICES, database, listed, ports
from scripts.environment import ROOT
from scripts.measuring.postgresql import Server, Unavailable, cluster
from scripts.measuring.serving import serving
from services.audit.auditing import audit
from services.audit.reading import read
from services.audit.service import shop

BLOCK_SECONDS = 1.0
# For each way of working by itself.
ALONE_SECONDS = 2.0
SLOW_MILLISECONDS = 5
READY_SECONDS = 30.0
MEMORY = Path("/dev/shm")  # noqa: S108 - for its speed, not for its secrecy
MEMORY_BYTES = 1 << 28
PRODUCT = "bench"
# Every order has its key, so a refused stream is asked again; nothing else is to wait for.
ASK = mesh.Policy(retry=mesh.Retry())
CONFIRMED = OrderStatus.Value("ORDER_STATUS_CONFIRMED")
ORDER = Order(
    customer_id="bench",
    items=[Order.Item(product_id=PRODUCT, quantity=1)],
    payment_method="card",
)


@dataclass(slots=True)
class Kind:
    """Where a stand's databases are, and what its services run under."""

    name: str
    parent: Path | None
    wrapper: Sequence[str] = ()
    server: Server | None = None

    def url(self, folder: Path, service: str) -> str:
        return self.server.new_database() if self.server else database(folder, service)


@dataclass(slots=True)
class Stand:
    """
    A shop of its own processes.

    By how many orders are placed at once: `rates` are orders a second, `costs` the CPU milliseconds
    of the four services for one.
    """

    name: str
    stub: Any
    processes: list[Process]
    rates: dict[int, list[float]] = field(default_factory=dict)
    costs: dict[int, list[float]] = field(default_factory=dict)
    placed: int = 0

    async def block(self, at_once: int, seconds: float) -> None:
        """Place orders for so long, so many at once."""
        began, used, placed = time.monotonic(), self._used(), 0

        async def customer() -> None:
            nonlocal placed
            while time.monotonic() - began < seconds:
                self.placed += 1
                key = f"{self.name}-{self.placed}"
                request = CreateOrderRequest(order=ORDER, request_id=key, wait=True)
                order = await self.stub.CreateOrder(request, timeout=60.0)
                if order.status != CONFIRMED:
                    raise RuntimeError(f"an order ended as {OrderStatus.Name(order.status)}")
                placed += 1

        await asyncio.gather(*(customer() for _ in range(at_once)))
        self.rates.setdefault(at_once, []).append(placed / (time.monotonic() - began))
        self.costs.setdefault(at_once, []).append((self._used() - used) * 1000 / placed)

    def _used(self) -> float:
        """CPU seconds of the services so far."""
        ticks = 0
        for process in self.processes:
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@asynccontextmanager
async def stand(kind: Kind) -> AsyncIterator[Stand]:
    """A shop of this kind; its books must agree when it closes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="orders-", dir=kind.parent)))
        places = ports()
        url = listed(folder, places)
        processes = []
        for service in SERVICES:
            environment = {"MESH_REGISTRY": url, "DATABASE_URL": kind.url(folder, service)}
            process = serving(service, places[service], folder, environment, kind.wrapper)
            processes.append(await stack.enter_async_context(process))
        registry = await stack.enter_async_context(discovery.connect(url))
        channel = await stack.enter_async_context(mesh.Channel("orders", ASK, registry=registry))
        await asyncio.wait_for(channel.channel_ready(), READY_SECONDS)
        await _stock(f"{HOST}:{places['inventory']}")
        books = await stack.enter_async_context(shop(registry))
        yield Stand(kind.name, OrderServiceStub(channel), processes)
        await _agrees(books)


async def _stock(address: str) -> None:
    """Enough of one product for any number of orders."""
    price = Money(currency_code="USD", units=1)
    product = Product(product_id=PRODUCT, title="Bench", price=price, available=1_000_000)
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = InventoryServiceStub(channel)
        await stub.ImportProducts(iter([product]), timeout=10.0, wait_for_ready=True)


async def _agrees(books: Any) -> None:
    report = audit(await read(books))
    if report.wrong:
        raise RuntimeError(report.wrong[0].text)


async def measure(seconds: float, at_once: int, parent: Path | None) -> dict[str, Stand]:
    """The stands, after so many seconds in which they took turns."""
    async with AsyncExitStack() as stack:
        stands: dict[str, Stand] = {}
        for kind in stack.enter_context(kinds(parent)):
            stands[kind.name] = await stack.enter_async_context(stand(kind))
        for each in stands.values():
            await each.block(at_once, BLOCK_SECONDS)
            each.rates.clear()
            each.costs.clear()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for count in (1, at_once):
                for each in stands.values():
                    await each.block(count, BLOCK_SECONDS)
        return stands


@contextmanager
def kinds(parent: Path | None) -> Iterator[list[Kind]]:
    """What there is to compare on this machine."""
    roomy = MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES
    places = [("disk", parent), *([("memory", MEMORY)] if roomy else [])]
    with ExitStack() as stack:
        made = [Kind(f"sqlite {name}", place) for name, place in places]
        if roomy and (wrapper := slowed()):
            made.append(Kind("sqlite slow", MEMORY, wrapper))
        try:
            for name, place in places:
                server = stack.enter_context(cluster(place))
                made.append(Kind(f"postgresql {name}", place, server=server))
        except Unavailable as why:
            print(f"bench_orders: without PostgreSQL: {why}", file=sys.stderr)
        yield made


def slowed() -> tuple[str, ...]:
    """What makes each commit of a program take SLOW_MILLISECONDS longer; () without strace."""
    strace = parts.find("strace")
    if strace is None:
        return ()
    delay = f"inject=fdatasync:delay_enter={SLOW_MILLISECONDS * 1000}"
    tracing = ("-f", "-qq", "-I2", "--seccomp-bpf", "-e", "trace=fdatasync", "-e", delay)
    return (str(strace), *tracing, "-o", os.devnull)


def alone(parent: Path | None, seconds: float, at_once: int) -> dict[str, Any]:
    """What transactions and sagas come to by themselves, by stand."""
    found = {}
    with kinds(parent) as made, TemporaryDirectory(prefix="commits-", dir=parent) as folder:
        for kind in made:
            if kind.name.endswith("memory"):
                continue
            url = kind.url(Path(folder), kind.name.replace(" ", "-"))
            told = (url, str(seconds), str(at_once))
            command = (sys.executable, "-m", "scripts.measuring.commits", *told)
            done = subprocess.run(
                [*kind.wrapper, *command],
                cwd=ROOT,
                capture_output=True,
                text=True,
                timeout=60 + 10 * seconds,
                check=False,
            )
            if done.returncode:
                raise RuntimeError(f"{kind.name}: {done.stderr.strip().splitlines()[-1]}")
            found[kind.name] = json.loads(done.stdout)
    return found


def report(
    stands: dict[str, Stand], at_once: int, by_themselves: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Print what was measured; the same as data."""
    said: dict[str, Any] = {}
    head = f"{'one by one':>12} {f'{at_once} at once':>12} {'times as fast':>14}"
    print(f"{'orders/s':20} {head} {'CPU ms an order':>16}")
    for name, each in stands.items():
        one, many = (statistics.median(each.rates[count]) for count in (1, at_once))
        costs = [statistics.median(each.costs[count]) for count in (1, at_once)]
        said[name] = {
            "one_by_one": one,
            "at_once": many,
            "times": many / one,
            "cpu_milliseconds": costs,
        }
        cpu = f"{costs[0]:.1f} -> {costs[1]:.1f}"
        print(f"{name:20} {one:12.1f} {many:12.1f} {many / one:14.1f} {cpu:>16}")
    for name, found in said.items():
        database_, _, kind = name.partition(" ")
        memory = said.get(f"{database_} memory")
        if memory is None or kind == "memory":
            continue
        shares = [max(0.0, 1 - found[key] / memory[key]) for key in ("one_by_one", "at_once")]
        found["share_of_commits"] = shares
        print(f"share of commits, {name}: {shares[0]:.0%} and {shares[1]:.0%}")
    for name, works in (by_themselves or {}).items():
        for work, rates in works.items():
            one, many = rates["one_by_one"], rates["at_once"]
            times = many["rate"] / one["rate"]
            print(f"{name + ', ' + work:32} {one['rate']:10.1f} {many['rate']:10.1f} /s, ", end="")
            print(f"{times:.1f} times; {one['commits']:.2f} -> {many['commits']:.3f} commits each")
        said[name]["alone"] = works
    return said


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench_orders", description="Orders a second.")
    parser.add_argument("--seconds", type=float, default=30.0, help="of measuring")
    parser.add_argument("--at-once", type=int, default=64, help="customers, in the second half")
    parser.add_argument("--folder", type=Path, help="where the files are; else with the system's")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    asked = parser.parse_args(arguments)
    try:
        by_themselves = alone(asked.folder, ALONE_SECONDS, asked.at_once)
        stands = asyncio.run(measure(asked.seconds, asked.at_once, asked.folder))
    except (OSError, RuntimeError, subprocess.SubprocessError, grpc.aio.AioRpcError) as why:
        print(f"bench_orders: {why}", file=sys.stderr)
        return 1
    said = report(stands, asked.at_once, by_themselves)
    if asked.json:
        print(json.dumps(said, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
