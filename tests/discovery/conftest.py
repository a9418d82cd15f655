"""Agents to test with: ours in this process, and the real Consul where it can be had."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest

from discovery.agent import Agent
from scripts import parts

START_SECONDS = 20.0


@contextlib.contextmanager
def free_ports(count: int) -> Iterator[list[int]]:
    """Ports that were free a moment ago, all different."""
    with contextlib.ExitStack() as open_sockets:
        ports = []
        for _ in range(count):
            listener = open_sockets.enter_context(socket.socket())
            listener.bind(("127.0.0.1", 0))
            ports.append(listener.getsockname()[1])
    yield ports


@contextlib.asynccontextmanager
async def real_consul(
    directory: Path, *more: str, token: str = "", ready: str = ""
) -> AsyncIterator[str]:
    """
    A Consul server in dev mode on free ports; its host:port.

    `more` arguments come after ours and win; `ready` is the URL to wait at if it is not http.
    """
    try:
        program = await asyncio.to_thread(parts.ensure, "consul")
    except (parts.Unavailable, OSError) as why:
        pytest.skip(f"no real Consul to compare with: {why}")
    with free_ports(4) as (http, serf_lan, serf_wan, server):
        # Consul takes each serf port on TCP and UDP.
        command = [
            str(program), "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1",
            "-node=vm", "-log-level=err", f"-http-port={http}", "-grpc-port=-1", "-dns-port=-1",
            f"-serf-lan-port={serf_lan}", f"-serf-wan-port={serf_wan}", f"-server-port={server}",
            *more,
        ]  # fmt: skip
    with (directory / "consul.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=log, stderr=log, cwd=directory
        )
    try:
        address = f"127.0.0.1:{http}"
        headers = {"X-Consul-Token": token}
        async with (
            asyncio.timeout(START_SECONDS),
            aiohttp.ClientSession(headers=headers) as session,
        ):
            await _leader(session, ready or f"http://{address}")
        yield address
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def _leader(session: aiohttp.ClientSession, origin: str) -> None:
    """A server answers before it leads, and its own node comes a little later still."""
    while True:
        try:
            url = f"{origin}/v1/health/service/consul"
            async with session.get(url, ssl=False) as response:
                found = await response.json() if response.status == 200 else []
                if found and found[0]["Node"]["TaggedAddresses"] and found[0]["Checks"]:
                    return
        except aiohttp.ClientError:
            pass
        await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def agent_process(
    port: int = 0, *more: str
) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """The embedded agent as a process of its own, and its port."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "discovery.agent", "--port", str(port), "--log-level", "warning",
        *more, stdout=asyncio.subprocess.PIPE, env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS):
            line = (await process.stdout.readline()).decode()
        assert line.startswith("agent listening on "), line
        yield process, int(line.rsplit(":", 1)[1])
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.fixture(scope="session")
async def consul(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """host:port of a real Consul that this session's tests share."""
    async with real_consul(tmp_path_factory.mktemp("consul")) as address:
        yield address


@pytest.fixture
async def agent() -> AsyncIterator[Agent]:
    async with Agent.serving() as agent:
        yield agent
