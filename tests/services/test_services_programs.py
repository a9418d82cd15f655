"""Services as processes: what they print, what they refuse, and that kill -9 loses nothing."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from shop.orders.v1 import OrderServiceStub

import discovery
from discovery.agent import Agent
from tests.services.conserved import check
from tests.services.shopping import Shop, asking

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def started(
    service: str, *arguments: str, **environment: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """A service as a process, killed at the end if it still runs."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "protos")))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        f"services.{service}",
        *arguments,
        env={**os.environ, "PYTHONPATH": paths, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def ready(process: asyncio.subprocess.Process) -> str:
    """The line that a process says when it serves."""
    assert process.stdout is not None
    async with asyncio.timeout(30):
        return (await process.stdout.readline()).decode()


@pytest.mark.parametrize(
    ("service", "arguments", "environment", "said"),
    [
        ("payments", [], {"DATABASE_URL": "mysql://x"}, "mysql://x"),
        ("inventory", [], {"DATABASE_URL": "sqlite:///{folder}/corrupt.db"}, "corrupt.db"),
        ("orders", [], {"DATABASE_URL": "sqlite:////proc/none/x.db"}, "/proc/none"),
        (
            "orders",
            [],
            {"DATABASE_URL": "postgresql://a:b@127.0.0.1:1/x"},
            "postgresql://127.0.0.1:1/x",
        ),
        ("notifications", [], {"MESH_REGISTRY": "nonsense://x"}, "nonsense"),
        (
            "notifications",
            [],
            {"EVENTS_URL": "carrier-pigeon://x"},
            "'carrier-pigeon://x': is no bus: expected kafka://",
        ),
        ("payments", [], {"EVENTS_URL": "kafka://h?acks=0"}, "acks is not to be set"),
        ("orders", ["--port", "{port}"], {}, "{port}: Address already in use"),
        ("payments", ["--host", "192.0.2.1"], {}, "192.0.2.1"),
    ],
)
async def test_what_cannot_work_is_one_line_and_exit_2(
    tmp_path, service, arguments, environment, said
):
    (tmp_path / "corrupt.db").write_text("not a database, but long enough to be one " * 20)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        told = {"folder": str(tmp_path), "port": str(taken.getsockname()[1])}
        usual = {
            "MESH_REGISTRY": "memory://here",
            "DATABASE_URL": f"sqlite:///{tmp_path}/{service}.db",
        }
        environment = {name: text.format(**told) for name, text in environment.items()}
        arguments = [text.format(**told) for text in arguments]
        async with started(service, *arguments, **{**usual, **environment}) as process:
            async with asyncio.timeout(30):
                _, error = await process.communicate()

    assert process.returncode == 2
    assert error.decode().startswith(f"{service}: ")
    assert error.decode().count("\n") == 1
    assert said.format(**told) in error.decode()


async def test_a_process_says_where_it_listens_and_leaves_on_sigterm(tmp_path):
    told = {"MESH_REGISTRY": "memory://here", "DATABASE_URL": f"sqlite:///{tmp_path}/p.db"}
    async with started("payments", "--instance", "7", **told) as process:
        line = await ready(process)
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            await process.wait()

    name, _, address = line.rstrip().rpartition(" listening on ")
    assert name == f"payments-{socket.gethostname()}-7"
    assert address.startswith("127.0.0.1:")
    assert process.returncode == 0


async def test_killing_orders_in_the_middle_loses_nothing(tmp_path):
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
    ):
        shop = Shop(tmp_path, registry)
        told = {"MESH_REGISTRY": agent.url, "DATABASE_URL": f"sqlite:///{tmp_path}/orders.db"}
        async with shop.inventory() as inventory, shop.payments():
            async with started("orders", **told) as first:
                address = (await ready(first)).split()[-1]
                async with grpc.aio.insecure_channel(address) as channel:
                    orders = OrderServiceStub(channel)
                    for number in range(20):
                        card = ("card", "card-slow", "card-declined")[number % 3]
                        await orders.CreateOrder(asking(("mug", 1), wait=False, card=card))
                    first.kill()
                    await first.wait()
            async with shop.orders("orders-2") as orders:
                await check(shop, orders, inventory)
