"""Real brokers for the tests of buses: on loopback, each with a directory of its own."""

from __future__ import annotations

import asyncio
import ctypes
import signal
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import pytest

from mesh.events.bus import Bus
from scripts import parts

START_SECONDS = 20.0
_PR_SET_PDEATHSIG = 1


class Broker(Protocol):
    """A broker that can be killed, and comes back with what it had."""

    async def kill(self) -> None: ...

    async def start(self) -> None: ...

    def bus(self) -> Bus:
        """A new connection to it, to be entered."""


class Nats:
    """nats-server with JetStream in files."""

    def __init__(self, program: Path, directory: Path) -> None:
        self._program = program
        self._directory = directory
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        place = ["-a", "127.0.0.1", "-p", str(self._port), "-sd", str(self._directory)]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._program), "-js", *place],
                stdout=log,
                stderr=log,
                preexec_fn=_die_with_parent(),  # noqa: PLW1509 - one system call
            )
        await _listening(self._port, self._process)

    async def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)

    def bus(self) -> Bus:
        from mesh.events.nats import NatsBus

        return NatsBus(f"nats://127.0.0.1:{self._port}")


@asynccontextmanager
async def running(sort: str, directory: Path) -> AsyncIterator[Broker]:
    """A broker of this sort; skips the test where it can't be had."""
    pytest.importorskip(sort)
    program = parts.find("nats-server")
    if program is None:
        pytest.skip("no nats-server: scripts/parts nats-server fetches it")
    broker = Nats(program, directory)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.kill()


async def _listening(port: int, process: subprocess.Popen[bytes]) -> None:
    async with asyncio.timeout(START_SECONDS):
        while process.poll() is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.02)
            else:
                writer.close()
                await writer.wait_closed()
                return
    raise AssertionError(f"the broker ended with {process.returncode}")


def _die_with_parent() -> object:
    libc = ctypes.CDLL(None)
    return lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
