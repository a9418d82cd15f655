"""
A real Consul cluster on one machine: three servers, and the agent that services and clients ask.

Each has an address of its own on a ground (see grounds.py) that can cut it off from the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from scripts import parts

from .grounds import AGENT, SERVERS, Ground, ground

START_SECONDS = 40.0


class Cluster:
    """What a test can do to it; members are the last numbers of their addresses."""

    def __init__(self, program: Path, ground: Ground, directory: Path) -> None:
        self._program = program
        self._ground = ground
        self._directory = directory
        self._net = ground.net
        self._lives: dict[int, asyncio.subprocess.Process] = {}
        self._life = 0

    @property
    def here(self) -> str:
        """The test's own address, which everybody in the cluster reaches."""
        return f"{self._net}.1"

    def address(self, member: int) -> str:
        return f"{self._net}.{member}:8500"

    async def start(self, member: int, *, empty: bool = False) -> None:
        """Begin a member's life, with what it knew before unless `empty`."""
        self._life += empty
        data = self._directory / f"{member}-{self._life if empty else 0}"
        data.mkdir(exist_ok=True)
        others = [f"-retry-join={self._net}.{one}" for one in SERVERS if one != member]
        server = ["-server", "-bootstrap-expect=3"] if member in SERVERS else []
        options = (
            '{"performance": {"raft_multiplier": 1}, "leave_on_terminate": false,'
            ' "disable_update_check": true, "check_update_interval": "0s"}'
        )
        with (self._directory / f"{member}.log").open("ab") as log:
            self._lives[member] = await asyncio.create_subprocess_exec(
                *(*self._ground.inside(member), str(self._program), "agent", f"-node=n{member}"),
                *(f"-bind={self._net}.{member}", f"-client={self._net}.{member}"),
                *(f"-data-dir={data}", "-log-level=warn", "-retry-interval=1s"),
                *(f"-hcl={options}", *server, *others),
                stdout=log,
                stderr=log,
            )

    async def kill(self, member: int) -> None:
        """As kill -9 would; whoever leads is missed at once."""
        process = self._lives.pop(member)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()

    def unplug(self, *members: int) -> None:
        """Cut these members off from everybody, each other included."""
        for member in members:
            self._ground.cut(member, self._lives[member].pid)

    def plug(self, *members: int) -> None:
        for member in members:
            self._ground.mend(member, self._lives[member].pid)

    async def leader(self, asked: int = AGENT) -> int:
        """The member that leads; waits until one does and all answer."""
        async with asyncio.timeout(START_SECONDS), aiohttp.ClientSession() as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    url = f"http://{self.address(asked)}/v1/status/leader"
                    async with session.get(url, timeout=aiohttp.ClientTimeout(1.0)) as response:
                        found = (await response.json()) if response.status == 200 else ""
                        if found:
                            return int(found.rsplit(":", 1)[0].rsplit(".", 1)[1])
                await asyncio.sleep(0.1)

    async def close(self) -> None:
        for member in list(self._lives):
            await self.kill(member)


@asynccontextmanager
async def cluster(directory: Path, wanted: str = "") -> AsyncIterator[Cluster]:
    """Three servers that have a leader, and an agent that has joined them."""
    try:
        program = await asyncio.to_thread(parts.ensure, "consul")
    except (parts.Unavailable, OSError) as why:
        pytest.skip(f"no real Consul: {why}")
    with ground(wanted) as where:
        made = Cluster(program, where, directory)
        try:
            for member in (*SERVERS, AGENT):
                await made.start(member)
            await made.leader()
            yield made
        finally:
            await made.close()
