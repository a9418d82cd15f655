"""
Orders a second, end to end: four service processes, SQLite files, every commit on the disk.

    scripts/bench_orders [--seconds 20] [--at-once 64] [--folder DIR] [--json]

Each order is placed over gRPC and answered when it is CONFIRMED: stock reserved and sold, card
charged, thirteen commits one after another in three databases.  Three stands take turns in short
blocks, so that a host that slows down slows all alike:

    disk      files where --folder says
    memory    files in /dev/shm, where a commit costs nothing: what is missing is the commits' share
    slow      the same, and strace makes every fdatasync take SLOW_MILLISECONDS, as disks of clouds
              do; left out where strace can't be had
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
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
from scripts.crashing.victim import Victim
from services.audit.auditing import audit
from services.audit.reading import read
from services.audit.service import shop

BLOCK_SECONDS = 1.0
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
class Stand:
    """
    A shop of its own processes.

    By how many orders are placed at once: `rates` are orders a second, `costs` the CPU milliseconds
    of the four services for one.
    """

    name: str
    stub: Any
    processes: list[Victim]
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
async def stand(
    name: str, parent: Path | None, wrapper: Sequence[str] = ()
) -> AsyncIterator[Stand]:
    """A shop whose files are in a new folder there; its books must agree when it closes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="orders-", dir=parent)))
        places = ports()
        url = listed(folder, places)
        processes = []
        for service in SERVICES:
            environment = {"MESH_REGISTRY": url, "DATABASE_URL": database(folder, service)}
            process = Victim(service, places[service], folder, environment, wrapper=wrapper)
            processes.append(await stack.enter_async_context(process))
        registry = await stack.enter_async_context(discovery.connect(url))
        channel = await stack.enter_async_context(mesh.Channel("orders", ASK, registry=registry))
        await asyncio.wait_for(channel.channel_ready(), READY_SECONDS)
        await _stock(f"{HOST}:{places['inventory']}")
        books = await stack.enter_async_context(shop(registry))
        yield Stand(name, OrderServiceStub(channel), processes)
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
        for name, folder, wrapper in _kinds(parent):
            stands[name] = await stack.enter_async_context(stand(name, folder, wrapper))
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


def _kinds(parent: Path | None) -> Iterator[tuple[str, Path | None, tuple[str, ...]]]:
    """Each stand's name, where its files are, and what its services run under."""
    yield "disk", parent, ()
    if not (MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES):
        return
    yield "memory", MEMORY, ()
    strace = parts.find("strace")
    if strace is not None:
        delay = f"inject=fdatasync:delay_enter={SLOW_MILLISECONDS * 1000}"
        tracing = ("-f", "-qq", "-I2", "--seccomp-bpf", "-e", "trace=fdatasync", "-e", delay)
        yield "slow", MEMORY, (str(strace), *tracing, "-o", os.devnull)


def report(stands: dict[str, Stand], at_once: int) -> dict[str, Any]:
    """Print what was measured; the same as data."""
    said: dict[str, Any] = {}
    print(f"{'orders/s':8} {'one by one':>12} {f'{at_once} at once':>12} {'times as fast':>14}")
    for name, each in stands.items():
        one, many = (statistics.median(each.rates[count]) for count in (1, at_once))
        said[name] = {"one_by_one": one, "at_once": many, "times": many / one}
        print(f"{name:8} {one:12.1f} {many:12.1f} {many / one:14.1f}")
    disk = stands["disk"]
    one, many = (statistics.median(disk.costs[count]) for count in (1, at_once))
    said["cpu_milliseconds"] = {"one_by_one": one, "at_once": many}
    print(f"CPU ms an order, of the four services: {one:.1f} and {many:.1f}")
    for name in ("disk", "slow"):
        if "memory" in said and name in said:
            shares = [
                max(0.0, 1 - said[name][count] / said["memory"][count])
                for count in ("one_by_one", "at_once")
            ]
            said[name]["share_of_commits"] = shares
            print(f"share of commits, {name}: {shares[0]:.0%} and {shares[1]:.0%}")
    return said


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench_orders", description="Orders a second.")
    parser.add_argument("--seconds", type=float, default=20.0, help="of measuring")
    parser.add_argument("--at-once", type=int, default=64, help="customers, in the second half")
    parser.add_argument("--folder", type=Path, help="where the files are; else with the system's")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON at the end")
    asked = parser.parse_args(arguments)
    try:
        stands = asyncio.run(measure(asked.seconds, asked.at_once, asked.folder))
    except (OSError, RuntimeError, grpc.aio.AioRpcError) as why:
        print(f"bench_orders: {why}", file=sys.stderr)
        return 1
    said = report(stands, asked.at_once)
    if asked.json:
        print(json.dumps(said, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
