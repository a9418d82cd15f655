"""
Orders a second, end to end, on SQLite and on PostgreSQL: four service processes, durable commits.

    scripts/bench_orders [--seconds 60] [--at-once 64] [--folder DIR] [--json]

Each order is placed over gRPC and answered when it is CONFIRMED: stock reserved and sold, card
charged, nine commits one after another in four databases.  The stands take turns in short blocks,
so that a host that slows down slows all alike:

    disk      files, or a PostgreSQL's cluster, where --folder says
    memory    the same in /dev/shm, where a commit costs nothing: what is missing is commits' share
    slow      the same in /dev/shm, and strace makes every fdatasync take SLOW_MILLISECONDS, as
              disks of clouds do, and counts them: that is what commits there were; left out where
              strace can't be had

An order costs CPU too, one at a time more than many at once: by process, PostgreSQL's together.
What group commit is worth where nothing but commits costs is measured beside it: transactions
alone, and sagas that ask nobody.
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
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
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
    """Where a stand's databases are, and what they or its services run under."""

    name: str
    parent: Path | None
    wrapper: Sequence[str] = ()
    server: Server | None = None
    # Where the wrapper writes a line for each commit.
    commits: Path | None = None

    def url(self, folder: Path, service: str) -> str:
        return self.server.new_database() if self.server else database(folder, service)


@dataclass(frozen=True, slots=True)
class Block:
    """What some time of placing orders came to, by order: commits, and CPU in ms by process."""

    rate: float
    commits: float
    cpu: Mapping[str, float]


@dataclass(slots=True)
class Stand:
    """A shop of its own processes, and its blocks by how many orders were placed at once."""

    kind: Kind
    stub: Any
    processes: Mapping[str, int]
    blocks: dict[int, list[Block]] = field(default_factory=dict)
    placed: int = 0

    async def block(self, at_once: int, seconds: float) -> None:
        """Place orders for so long, so many at once."""
        placed, used, commits, began = 0, self._used(), self._commits(), time.monotonic()

        async def customer() -> None:
            nonlocal placed
            while time.monotonic() - began < seconds:
                self.placed += 1
                key = f"{self.kind.name}-{self.placed}"
                request = CreateOrderRequest(order=ORDER, request_id=key, wait=True)
                order = await self.stub.CreateOrder(request, timeout=60.0)
                if order.status != CONFIRMED:
                    raise RuntimeError(f"an order ended as {OrderStatus.Name(order.status)}")
                placed += 1

        await asyncio.gather(*(customer() for _ in range(at_once)))
        took = time.monotonic() - began
        cpu = {name: (now - used[name]) / placed for name, now in self._used().items()}
        block = Block(placed / took, (self._commits() - commits) / placed, cpu)
        self.blocks.setdefault(at_once, []).append(block)

    def _used(self) -> dict[str, float]:
        """CPU milliseconds of each process so far, without what it runs under."""
        services = {name: used(pid, self.kind.wrapper) for name, pid in self.processes.items()}
        return {"customers": time.process_time() * 1000, **services}

    def _commits(self) -> int:
        if self.kind.commits is None:
            return 0
        return self.kind.commits.read_bytes().count(b"fdatasync(")


def used(pid: int, wrapper: Sequence[str] = ()) -> float:
    """CPU milliseconds of a process and those it has started; a wrapper's own are left out."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        tasks = [each.read_text() for each in Path(f"/proc/{pid}/task").glob("*/children")]
    except (FileNotFoundError, ProcessLookupError):
        return 0.0  # it has just ended
    own = (int(fields[11]) + int(fields[12])) * 1000 / os.sysconf("SC_CLK_TCK")
    return sum(used(int(child)) for child in " ".join(tasks).split()) + (0.0 if wrapper else own)


@asynccontextmanager
async def stand(kind: Kind) -> AsyncIterator[Stand]:
    """A shop of this kind; its books must agree when it closes."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="orders-", dir=kind.parent)))
        places = ports()
        url = listed(folder, places)
        processes = {}
        for service in SERVICES:
            environment = {"MESH_REGISTRY": url, "DATABASE_URL": kind.url(folder, service)}
            wrapper = () if kind.server else kind.wrapper
            process = serving(service, places[service], folder, environment, wrapper)
            processes[service] = (await stack.enter_async_context(process)).pid
        if kind.server:
            processes["postgresql"] = kind.server.pid
        registry = await stack.enter_async_context(discovery.connect(url))
        channel = await stack.enter_async_context(mesh.Channel("orders", ASK, registry=registry))
        await asyncio.wait_for(channel.channel_ready(), READY_SECONDS)
        await _stock(f"{HOST}:{places['inventory']}")
        books = await stack.enter_async_context(shop(registry))
        yield Stand(kind, OrderServiceStub(channel), processes)
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
            each.blocks.clear()
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            for count in (1, at_once):
                for each in stands.values():
                    await each.block(count, BLOCK_SECONDS)
        return stands


@contextmanager
def kinds(parent: Path | None) -> Iterator[list[Kind]]:
    """What there is to compare on this machine."""
    places: list[tuple[str, Path | None]] = [("disk", parent)]
    if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
        places.append(("memory", MEMORY))
        if parts.find("strace"):
            places.append(("slow", MEMORY))
    with TemporaryDirectory(prefix="commits-") as folder, ExitStack() as stack:
        Path(folder).chmod(0o777)  # PostgreSQL may run as somebody else

        def log(store: str, name: str) -> Path | None:
            return Path(folder, store) if name == "slow" else None

        made = []
        for name, place in places:
            commits = log("sqlite", name)
            made.append(Kind(f"sqlite {name}", place, slowed(commits), commits=commits))
        try:
            for name, place in places:
                commits = log("postgresql", name)
                server = stack.enter_context(cluster(place, slowed(commits)))
                made.append(Kind(f"postgresql {name}", place, server=server, commits=commits))
        except Unavailable as why:
            print(f"bench_orders: without PostgreSQL: {why}", file=sys.stderr)
        yield made


def slowed(log: Path | None) -> tuple[str, ...]:
    """What makes the commits of a program take SLOW_MILLISECONDS, and writes a line for each."""
    strace = parts.find("strace")
    if log is None or strace is None:
        return ()
    log.touch()
    log.chmod(0o666)
    delay = f"inject=fdatasync:delay_enter={SLOW_MILLISECONDS * 1000}"
    tracing = ("-f", "-qq", "-I2", "--seccomp-bpf", "-e", "trace=fdatasync", "-e", delay)
    return (str(strace), *tracing, "-A", "-o", str(log))


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
    stands: Mapping[str, Mapping[int, Sequence[Block]]],
    at_once: int,
    by_themselves: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Print what the stands' blocks came to; the same as data."""
    said: dict[str, Any] = {}
    head = f"{'one by one':>12} {f'{at_once} at once':>12} {'times as fast':>14}"
    print(f"{'orders/s':20} {head} {'commits an order':>20}")
    for name, blocks in stands.items():
        one, many = (
            statistics.median(each.rate for each in blocks[count]) for count in (1, at_once)
        )
        found: dict[str, Any] = {"one_by_one": one, "at_once": many, "times": many / one}
        said[name] = found
        commits = [statistics.median(each.commits for each in blocks[n]) for n in (1, at_once)]
        counted = ""
        if all(commits):
            found["commits"] = commits
            counted = f"{commits[0]:.2f} -> {commits[1]:.2f}"
        print(f"{name:20} {one:12.1f} {many:12.1f} {many / one:14.1f} {counted:>20}")
    for name, found in said.items():
        store, _, kind = name.partition(" ")
        memory = said.get(f"{store} memory")
        if memory is None or kind == "memory":
            continue
        shares = [max(0.0, 1 - found[key] / memory[key]) for key in ("one_by_one", "at_once")]
        found["share_of_commits"] = shares
        print(f"share of commits, {name}: {shares[0]:.0%} and {shares[1]:.0%}")
    for name, blocks in stands.items():
        cpu = said[name]["cpu_milliseconds"] = [_by_process(blocks[n]) for n in (1, at_once)]
        each = ", ".join(f"{who} {cpu[0][who]:.1f} -> {cpu[1][who]:.1f}" for who in cpu[0])
        total = " -> ".join(f"{sum(costs.values()):.1f}" for costs in cpu)
        print(f"CPU ms an order, {name}: {total} ({each})")
    for name, works in (by_themselves or {}).items():
        for work, rates in works.items():
            one, many = rates["one_by_one"], rates["at_once"]
            times = many["rate"] / one["rate"]
            print(f"{name + ', ' + work:32} {one['rate']:10.1f} {many['rate']:10.1f} /s, ", end="")
            print(f"{times:.1f} times; {one['commits']:.2f} -> {many['commits']:.3f} commits each")
        said[name]["alone"] = works
    return said


def _by_process(blocks: Sequence[Block]) -> dict[str, float]:
    names = blocks[0].cpu
    return {name: statistics.median(each.cpu[name] for each in blocks) for name in names}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench_orders", description="Orders a second.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of measuring")
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
    blocks = {name: each.blocks for name, each in stands.items()}
    said = report(blocks, asked.at_once, by_themselves)
    if asked.json:
        print(json.dumps(said, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
