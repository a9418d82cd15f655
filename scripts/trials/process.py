"""
A server process of a trial: started, frozen, thawed, killed and started again at its address.

    start --> "listening on HOST:PORT"        freeze / thaw: SIGSTOP / SIGCONT
    stop: SIGTERM, as a deployment would      kill: SIGKILL, as the kernel would

It ends with the process that started it, whatever happens to that one.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from contextlib import suppress

from scripts.environment import ROOT

TETHER = ROOT / "scripts" / "stage" / "tether.py"
READY_SECONDS = 20.0
STOP_SECONDS = 15.0


class Server:
    """One command, and the process that runs it now."""

    def __init__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self._command = command
        self._environment = {**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._process: Process | None = None
        self._draining: asyncio.Task[bytes] | None = None
        self.address = ""

    async def start(self) -> str:
        """Run it; the address once it listens."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", str(TETHER), str(os.getpid())),
            *(sys.executable, "-P", "-m", *self._command),
            cwd=ROOT,
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=PIPE,
        )
        output = self._process.stdout
        assert output is not None
        async with asyncio.timeout(READY_SECONDS):
            while line := (await output.readline()).decode():
                if found := re.search(r"listening on \S*?([\w.]+:\d+)", line):
                    self.address = found[1]
                    # Whatever else it says must not fill the pipe.
                    self._draining = asyncio.ensure_future(output.read())
                    return self.address
        raise ChildProcessError(f"{' '.join(self._command)} ended before it listened")

    @property
    def port(self) -> int:
        return int(self.address.rpartition(":")[2])

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it without a word, and see it gone."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """Let it drain and end; one that does not end in time is killed."""
        self.thaw()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await self._end(signal.SIGTERM)
        except TimeoutError:
            await self.kill()

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal(number)
        await self._process.wait()
        if self._draining is not None:
            await self._draining

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                self._process.send_signal(number)
