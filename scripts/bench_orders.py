"""
Orders a second, end to end: four service processes, SQLite files, every commit on the disk.

    scripts/bench_orders [--seconds 10] [--at-once 64] [--folder DIR]

Each order is placed over gRPC and answered when it is CONFIRMED: stock reserved and sold, card
charged, some dozen commits in three databases.  The same is measured once more on files in memory
(/dev/shm), where a commit costs next to nothing: the difference is the share of commits.  Both take
turns in short blocks, so that a host that slows down slows all alike.
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
from collections.abc import AsyncIterator
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
from scripts.crashing.house import HOST, SERVICES, database, listed, ports
from scripts.crashing.victim import Victim
from services.audit.auditing import audit
from services.audit.reading import read
from services.audit.service import shop

BLOCK_SECONDS = 1.0
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
async def stand(name: str, parent: Path | None) -> AsyncIterator[Stand]:
    """A shop whose files are in a new folder there; its books must agree when it closes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="orders-", dir=parent)))
        places = ports()
        url = listed(folder, places)
        processes = []
        for service in SERVICES:
            environment = {"MESH_REGISTRY": url, "DATABASE_URL": database(folder, service)}
            process = Victim(service, places[service], folder, environment)
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


def _has_memory() -> bool:
    return MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES


async def measure(seconds: float, at_once: int, parent: Path | None) -> list[Stand]:
    async with AsyncExitStack() as stack:
        stands = [await stack.enter_async_context(stand("disk", parent))]
        if _has_memory():
            stands.append(await stack.enter_async_context(stand("memory", MEMORY)))
        for each in stands:
            await each.block(at_once, BLOCK_SECONDS)
            each.rates.clear()
            each.costs.clear()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for count in (1, at_once):
                for each in stands:
                    await each.block(count, BLOCK_SECONDS)
        return stands


def report(stands: list[Stand], at_once: int) -> dict[str, Any]:
    """Print what was measured; the same as data."""
    said: dict[str, Any] = {}
    print("at once   orders/s   CPU ms an order   files in memory: orders/s   share of commits")
    for count in (1, at_once):
        disk, *others = stands
        rate, cost = (statistics.median(kept[count]) for kept in (disk.rates, disk.costs))
        line = f"{count:7} {rate:10.1f} {cost:17.1f}"
        said[str(count)] = {"orders_per_second": rate, "cpu_milliseconds": cost}
        for memory in others:
            fast = statistics.median(memory.rates[count])
            share = max(0.0, 1 - rate / fast)
            line += f" {fast:27.1f} {share:18.0%}"
            said[str(count)] |= {"in_memory": fast, "share_of_commits": share}
        print(line)
    ratio = said[str(at_once)]["orders_per_second"] / said["1"]["orders_per_second"]
    print(f"{at_once} at once are {ratio:.1f} times as fast as one after another")
    return {**said, "ratio": ratio}


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
