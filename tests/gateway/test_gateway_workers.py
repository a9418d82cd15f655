"""Several processes on one port: one line, one port, one clean stop."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import aiohttp
import pytest

import discovery
from discovery.agent import Agent
from gateway.listen import ListenError, listen
from gateway.workers import sockets
from tests.gateway.scripted import Orders, running
from tests.gateway.test_gateway_process import process, refusal

LINUX = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="reads /proc")


def children(pid: int) -> list[int]:
    """The processes that `pid` has started and that still run."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


async def answered(url: str, times: int) -> list[int]:
    """Statuses of so many requests, each on a connection of its own."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as http:
        found = []
        for _ in range(times):
            async with http.get(f"{url}/v1/orders/o-1") as response:
                found.append(response.status)
        return found


async def served(url: str) -> None:
    async with asyncio.timeout(30):
        while await answered(url, 12) != [200] * 12:
            await asyncio.sleep(0.05)


@LINUX
async def test_workers_share_the_port_and_a_killed_one_is_replaced() -> None:
    async with (
        Agent.serving(port=0) as agent,
        discovery.connect(agent.url) as registry,
        running(registry, "orders", Orders()),
        process("--workers", "2", MESH_REGISTRY=agent.url) as child,
    ):
        assert child.stdout is not None
        line = (await asyncio.wait_for(child.stdout.readline(), 60)).decode()
        url = line.split()[-1]
        await served(url)
        before = children(child.pid)
        assert len(before) == 2

        os.kill(before[0], signal.SIGKILL)
        assert await asyncio.wait_for(answered(url, 20), 60)  # each waits, none is refused
        after = children(child.pid)
        await served(url)

        child.send_signal(signal.SIGTERM)
        rest, _ = await asyncio.wait_for(child.communicate(), 30)

    assert set(after) != set(before)
    assert (child.returncode, rest) == (0, b"")
    assert not any(Path(f"/proc/{pid}").exists() for pid in {*before, *after})


@LINUX
async def test_no_worker_outlives_its_supervisor() -> None:
    async with process("--workers", "2", MESH_REGISTRY="memory://x") as child:
        assert child.stdout is not None
        await asyncio.wait_for(child.stdout.readline(), 60)
        orphans = children(child.pid)
        child.kill()
        await child.wait()
        async with asyncio.timeout(20):
            while any(_runs(pid) for pid in orphans):
                await asyncio.sleep(0.05)

    assert len(orphans) == 2


def _runs(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


@pytest.mark.parametrize(
    ("arguments", "environ", "said"),
    [
        (("--workers", "0"), {}, "workers"),
        (("--workers", "x"), {}, "workers"),
        ((), {"GATEWAY_WORKERS": "1000"}, "workers"),
        (("--workers", "2"), {"MESH_REGISTRY": "ftp://x"}, "ftp"),
        (("--workers", "2"), {"GATEWAY_ADMIN_PORT": "0"}, "GATEWAY_ADMIN_PORT"),
    ],
)
async def test_what_workers_cannot_do_is_one_line(
    arguments: tuple[str, ...], environ: dict[str, Any], said: str
) -> None:
    code, errors = await refusal(*arguments, **{"MESH_REGISTRY": "memory://x", **environ})

    assert (code, errors.count("\n")) == (2, 1)
    assert said in errors


def test_a_port_that_another_gateway_has_is_not_shared() -> None:
    first = sockets("127.0.0.1", 0, 2)
    try:
        port = first[0].getsockname()[1]
        assert [one.getsockname()[1] for one in first] == [port, port]
        with pytest.raises(ListenError):
            sockets("127.0.0.1", port, 2)
        with pytest.raises(ListenError):
            listen("127.0.0.1", port)
    finally:
        for one in first:
            one.close()
