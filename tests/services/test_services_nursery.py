"""Processes forked from one that has imported all: they are services, die alone and end with us."""

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
from shop.payments.v1 import GetPaymentRequest, PaymentServiceStub

from scripts.crashing.house import HOST, database, listed, own_host, ports
from scripts.crashing.nursery import Life, Nursery
from scripts.environment import ROOT

SECONDS = 20.0
# Somebody who starts a service and never ends by themselves.
STARTER = """
import asyncio, sys
from pathlib import Path
from scripts.crashing.nursery import Nursery
from tests.services.test_services_nursery import payments

async def main():
    folder = Path(sys.argv[1])
    async with Nursery(Path("not needed")) as nursery, payments(nursery, folder) as (life, _):
        print(life.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def nursery(strace) -> AsyncIterator[Nursery]:
    async with Nursery(strace) as nursery:
        yield nursery


@asynccontextmanager
async def payments(
    nursery: Nursery, folder: Path, *tracing: str, url: str = ""
) -> AsyncIterator[tuple[Life, str]]:
    """An instance of payments and its address; what it says is in the folder's `log`."""
    host = own_host()
    places = ports(host)
    environment = {
        "MESH_REGISTRY": listed(folder, places, host),
        "DATABASE_URL": url or database(folder, "payments"),
    }
    port = places["payments"]
    async with nursery.life("payments", host, port, environment, folder / "log", tracing) as life:
        yield life, f"{host}:{port}"


async def answer(address: str) -> grpc.StatusCode:
    """What a payment that nobody made is."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = PaymentServiceStub(channel)
        asked = GetPaymentRequest(payment_id="nobody")
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.GetPayment(asked, timeout=SECONDS, wait_for_ready=True)
        return failed.value.code()


async def gone(pid: int) -> None:
    async with asyncio.timeout(SECONDS):
        while Path(f"/proc/{pid}").exists():
            await asyncio.sleep(0.01)


def test_nobody_else_looks_for_ports_where_ours_are():
    host = own_host()
    port = ports(host)["orders"]
    with (
        socket.create_server((HOST, port)),
        socket.create_server((host, port)) as ours,
        socket.create_connection((host, port), timeout=SECONDS) as asking,
        ours.accept()[0] as asked,
    ):
        assert asked.getpeername() == asking.getsockname()


async def test_a_service_serves_until_its_block_ends(nursery, tmp_path):
    async with payments(nursery, tmp_path) as (life, address):
        assert await answer(address) is grpc.StatusCode.NOT_FOUND
        assert not life.ended.done()

    assert life.ended.result() == -signal.SIGKILL
    assert "listening on" in (tmp_path / "log").read_text()


async def test_each_is_a_process_of_its_own(nursery, tmp_path):
    folders = [tmp_path / name for name in ("one", "other")]
    for folder in folders:
        folder.mkdir()
    async with (
        payments(nursery, folders[0]) as (one, _),
        payments(nursery, folders[1]) as (other, address),
    ):
        one.kill()
        assert await one.ended == -signal.SIGKILL
        assert await answer(address) is grpc.StatusCode.NOT_FOUND

    assert one.pid != other.pid


async def test_a_service_dies_at_the_call_that_strace_is_told(nursery, tmp_path):
    inject = ("-e", "trace=fdatasync", "-e", "inject=fdatasync:signal=KILL:when=1")
    async with payments(nursery, tmp_path, *inject, "-o", os.devnull) as (life, _):
        async with asyncio.timeout(SECONDS):
            assert await life.ended == -signal.SIGKILL

    assert "listening" not in (tmp_path / "log").read_text()


async def test_a_service_that_can_not_run_says_why(nursery, tmp_path):
    async with payments(nursery, tmp_path, url="nonsense://there") as (life, _):
        async with asyncio.timeout(SECONDS):
            assert await life.ended == 2

    assert "nonsense" in (tmp_path / "log").read_text()


async def test_a_service_that_nobody_traces_does_nothing(tmp_path):
    """A tracer that may not trace: what it says is in the log, and so is what came of it."""
    forbidden = tmp_path / "forbidden"
    forbidden.write_text("#!/bin/sh\necho may not trace >&2\nexit 1\n")
    forbidden.chmod(0o755)
    async with (
        Nursery(forbidden, patience=0.2) as nursery,
        payments(nursery, tmp_path, "-f") as (life, _),
        asyncio.timeout(SECONDS),
    ):
        assert await life.ended == 1

    assert sorted((tmp_path / "log").read_text().splitlines()) == [
        "may not trace",
        "nobody has traced it for 0.2 s",
    ]
    assert not (tmp_path / "payments.db").exists()


async def test_every_process_ends_with_whoever_started_the_nursery(tmp_path):
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", STARTER, str(tmp_path)),
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert starter.stdout is not None
    async with asyncio.timeout(SECONDS):
        pid = int(await starter.stdout.readline())
    assert Path(f"/proc/{pid}").exists()

    starter.kill()
    await starter.wait()

    await gone(pid)
