"""
Service processes that begin behind their imports: forked from one parent that has made them all.

    async with (
        Nursery(strace) as nursery,
        nursery.life("orders", "127.0.0.1", 15001, environment, log, tracing=["-e", ...]) as life,
    ):
        code = await life.ended

A process lasts as long as its block, and no longer than the nursery's.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from scripts.environment import ROOT

READY_SECONDS = 60.0
GONE_SECONDS = 10.0
# How long a process waits for its tracer before it gives up.
TRACER_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Life:
    """One process; `ended` is its exit code, or below zero the signal that ended it."""

    pid: int
    ended: asyncio.Future[int]

    def kill(self) -> None:
        if not self.ended.done():
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)


class Nursery:
    """The parent process, as long as the `async with` lasts."""

    _zygote: Process
    _hearing: asyncio.Task[None]

    def __init__(self, strace: Path, patience: float = TRACER_SECONDS) -> None:
        self._strace = strace
        self._patience = patience
        self._ready = asyncio.Event()
        self._starting: deque[asyncio.Future[Life]] = deque()
        self._running: dict[int, Life] = {}

    async def __aenter__(self) -> Self:
        self._zygote = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "scripts.crashing.zygote"),
            cwd=ROOT,
            # Where gRPC's handlers of a fork run, they may wait for threads that are not there.
            env={**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "false"},
            stdin=PIPE,
            stdout=PIPE,
            start_new_session=True,  # Ctrl-C is for who started it
        )
        self._hearing = asyncio.create_task(self._hear())
        ready = asyncio.create_task(self._ready.wait())
        try:
            async with asyncio.timeout(READY_SECONDS):
                await asyncio.wait([ready, self._hearing], return_when=asyncio.FIRST_COMPLETED)
            if not self._ready.is_set():
                raise RuntimeError(f"the zygote ended with {await self._zygote.wait()}")
        except BaseException:
            await self._stop()
            raise
        finally:
            ready.cancel()
        return self

    async def __aexit__(self, *reason: object) -> None:
        await self._stop()

    @asynccontextmanager
    async def life(
        self,
        service: str,
        host: str,
        port: int,
        environment: Mapping[str, str],
        log: Path,
        tracing: Sequence[str] = (),
    ) -> AsyncIterator[Life]:
        """One process; with options strace does to it what they say, from its first call on."""
        asked = {
            "service": service,
            "host": host,
            "port": port,
            "environment": dict(environment),
            "log": str(log),
            "tracer": self._patience if tracing else 0,
        }
        life = await self._fork(asked)
        tracer: Process | None = None
        try:
            if tracing:
                tracer = await self._trace(life, log, tracing)
            yield life
        finally:
            life.kill()
            if tracer is not None:
                await _gone(tracer)  # by itself, with what it traces
            await life.ended

    async def _fork(self, asked: Mapping[str, object]) -> Life:
        if self._hearing.done():
            raise RuntimeError("the zygote has ended, nothing can be forked from it")
        started: asyncio.Future[Life] = asyncio.get_running_loop().create_future()
        self._starting.append(started)
        assert self._zygote.stdin is not None
        self._zygote.stdin.write(json.dumps(asked).encode() + b"\n")
        return await started

    async def _trace(self, life: Life, log: Path, tracing: Sequence[str]) -> Process:
        with log.open("ab") as output:
            return await asyncio.create_subprocess_exec(
                *(str(self._strace), "-f", "-qq", *tracing, "-p", str(life.pid)),
                stdin=DEVNULL,
                stdout=DEVNULL,
                stderr=output,
            )

    async def _hear(self) -> None:
        assert self._zygote.stdout is not None
        async for line in self._zygote.stdout:
            said = json.loads(line)
            if "ready" in said:
                self._ready.set()
            elif "started" in said:
                self._started(said["started"])
            else:
                self._running.pop(said["ended"]).ended.set_result(said["code"])
        # The kernel has killed what was forked from it.
        for life in self._running.values():
            life.ended.set_result(-signal.SIGKILL)
        for started in self._starting:
            if not started.done():
                started.set_exception(RuntimeError("the zygote ended while it was to fork"))

    def _started(self, pid: int) -> None:
        life = Life(pid, asyncio.get_running_loop().create_future())
        self._running[pid] = life
        waiting = self._starting.popleft()
        if waiting.done():
            life.kill()  # nobody wants it any more
        else:
            waiting.set_result(life)

    async def _stop(self) -> None:
        assert self._zygote.stdin is not None
        self._zygote.stdin.close()
        await _gone(self._zygote)
        await self._hearing


async def _gone(process: Process) -> None:
    """Wait for its end, which is due; it is killed when that is long in coming."""
    try:
        async with asyncio.timeout(GONE_SECONDS):
            await process.wait()
    except TimeoutError:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
