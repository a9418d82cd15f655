"""
A real Consul cluster on one machine: three servers and an agent, each in a network of its own.

    10.213.N.1 the test      .11 .12 .13 servers      .14 the agent that services and clients ask

Each has a network namespace and a cable to one bridge; a cable that is unplugged is a partition.
Where namespaces are refused (no root) there is no cluster, and its tests skip.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import aiohttp
import pytest

from scripts import parts

START_SECONDS = 40.0
SERVERS = (11, 12, 13)
AGENT = 14


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@contextmanager
def networks() -> Iterator[str]:
    """A bridge with a namespace for each member; yields what all their names begin with."""
    number = os.getpid() % 200 + 1
    name = f"mesh{number}"
    undo = contextlib.ExitStack()
    with undo:
        try:
            ip("link", "add", name, "type", "bridge")
            undo.callback(ip, "link", "del", name)
            ip("addr", "add", f"10.213.{number}.1/24", "dev", name)
            ip("link", "set", name, "up")
            for member in (*SERVERS, AGENT):
                space, cable = f"{name}-{member}", f"{name}v{member}"
                ip("netns", "add", space)
                undo.callback(ip, "netns", "del", space)
                ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", space)
                undo.callback(ip, "link", "del", cable)
                ip("link", "set", cable, "master", name, "up")
                at = f"10.213.{number}.{member}/24"
                ip("netns", "exec", space, "ip", "addr", "add", at, "dev", "eth0")
                ip("netns", "exec", space, "ip", "link", "set", "eth0", "up")
                ip("netns", "exec", space, "ip", "link", "set", "lo", "up")
        except (OSError, subprocess.CalledProcessError) as why:
            pytest.skip(f"no network namespaces here: {why}")
        yield name


class Cluster:
    """What a test can do to it; members are the last numbers of their addresses."""

    def __init__(self, program: Path, name: str, directory: Path) -> None:
        self._program = program
        self._name = name
        self._directory = directory
        self._net = f"10.213.{name.removeprefix('mesh')}"
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
                *("ip", "netns", "exec", f"{self._name}-{member}", str(self._program), "agent"),
                *(f"-node=n{member}", f"-bind={self._net}.{member}", "-client=0.0.0.0"),
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
            ip("link", "set", f"{self._name}v{member}", "down")

    def plug(self, *members: int) -> None:
        for member in members:
            ip("link", "set", f"{self._name}v{member}", "up")

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
async def cluster(directory: Path) -> AsyncIterator[Cluster]:
    """Three servers that have a leader, and an agent that has joined them."""
    try:
        program = await asyncio.to_thread(parts.ensure, "consul")
    except (parts.Unavailable, OSError) as why:
        pytest.skip(f"no real Consul: {why}")
    with networks() as name:
        made = Cluster(program, name, directory)
        try:
            for member in (*SERVERS, AGENT):
                await made.start(member)
            await made.leader()
            yield made
        finally:
            await made.close()
