"""
The agents that are measured, each a process of its own seen from outside: the embedded one, Consul.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp

from scripts import parts

AT_ONCE = 32
START_SECONDS = 20.0
TICKS = os.sysconf("SC_CLK_TCK")


class Agent:
    """`port` is where its HTTP is."""

    def __init__(self, pid: int, port: int, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.origin = f"http://127.0.0.1:{port}"
        self._proc = Path(f"/proc/{pid}")
        self._session = session

    @property
    def url(self) -> str:
        """What discovery.connect takes."""
        return f"consul://127.0.0.1:{self.port}"

    def cpu(self) -> float:
        """Seconds of user and system time."""
        fields = (self._proc / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def megabytes(self) -> float:
        return pss(self._proc)

    async def put(self, path: str, body: Any = None) -> None:
        async with self._session.put(self.origin + path, json=body) as response:
            response.raise_for_status()

    async def register(self, name: str, number: int) -> None:
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        check = {"TTL": "1h", "Status": "passing"}
        body = {"Name": name, "ID": f"{name}-{number}", "Address": address, "Port": 50051}
        body |= {"Tags": ["grpc"], "Meta": {"zone": "a", "version": "1"}, "Check": check}
        await self.put("/v1/agent/service/register", body)

    async def leads(self) -> None:
        """Wait until it has a leader, itself."""
        async with asyncio.timeout(START_SECONDS):
            while True:
                try:
                    url = f"{self.origin}/v1/health/service/consul"
                    async with self._session.get(url) as response:
                        if response.status == 200 and await response.json():
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.05)


def pss(process: Path = Path("/proc/self")) -> float:
    """Megabytes, shared pages in parts."""
    for line in (process / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


@asynccontextmanager
async def embedded() -> AsyncIterator[Agent]:
    """The embedded agent."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "discovery.agent", "--port", "0", "--log-level", "warning"),
        stdout=asyncio.subprocess.PIPE,
    )
    async with _measured(process) as session:
        assert process.stdout is not None
        port = int((await process.stdout.readline()).decode().rsplit(":", 1)[1])
        yield Agent(process.pid, port, session)


@asynccontextmanager
async def consul() -> AsyncIterator[Agent]:
    """The real Consul in dev mode: one server, in memory; raises parts.Unavailable."""
    program = await asyncio.to_thread(parts.ensure, "consul")
    http, lan, wan, server = _free_ports(4)
    with TemporaryDirectory() as directory:
        process = await asyncio.create_subprocess_exec(
            *(str(program), "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1"),
            *("-log-level=err", f"-http-port={http}", "-grpc-port=-1", "-dns-port=-1"),
            *(f"-serf-lan-port={lan}", f"-serf-wan-port={wan}", f"-server-port={server}"),
            cwd=directory,
            stdout=asyncio.subprocess.DEVNULL,
        )
        async with _measured(process) as session:
            agent = Agent(process.pid, http, session)
            await agent.leads()
            yield agent


@asynccontextmanager
async def _measured(process: asyncio.subprocess.Process) -> AsyncIterator[aiohttp.ClientSession]:
    try:
        connector = aiohttp.TCPConnector(limit=AT_ONCE)
        async with aiohttp.ClientSession(connector=connector) as session:
            yield session
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
