"""
N processes on one port: sockets made here with SO_REUSEPORT, one for each worker to inherit.

    supervise -> listen (N sockets, one port) -> N x `python -m gateway --worker FD:SLOT:N:DIR`
    a worker dies -> another gets its socket, after 0.2 s doubling to 5 s
    SIGTERM, SIGINT -> each worker drains; a second signal kills

The sockets stay open here: what connects while a worker is away waits for the next one.  Workers
read our end of a pipe, so that none outlives us.  Each has its own breakers and limits; what they
share (gateway.together) lies in a directory that is gone when they are.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gateway.listen import ListenError, listen, url_of
from gateway.together import Together, directory

log = logging.getLogger(__name__)

FIRST_PAUSE_SECONDS = 0.2
LONGEST_PAUSE_SECONDS = 5.0
# A worker that lived so long was well: its next death is a first one.
WELL_SECONDS = 30.0
# Beyond the workers' own draining, until they are killed.
STOP_SECONDS = 12.0
MOST = 128
USAGE = 2


def sockets(host: str, port: int, count: int) -> list[socket.socket]:
    """`count` sockets on one port, which nobody else has."""
    with ExitStack() as stack:
        # Alone on it first: SO_REUSEPORT would share it with another gateway.
        probe = listen(host, port)
        port = probe.getsockname()[1]
        probe.close()
        made = [stack.enter_context(listen(host, port, shared=True)) for _ in range(count)]
        stack.pop_all()
    return made


async def supervise(
    arguments: Sequence[str],
    host: str,
    port: int,
    count: int,
    started: Callable[[str], None],
) -> int:
    """Run the workers until a signal; the exit code: a worker's own 2 when it cannot start."""
    stop, kill = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def signalled() -> None:
        (kill if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled)
    with ExitStack() as stack:
        listening = [stack.enter_context(one) for one in sockets(host, port, count)]
        shared = stack.enter_context(directory())
        workers = [
            _Worker(arguments, one, Together(shared.path, slot, count), shared.owned)
            for slot, one in enumerate(listening)
        ]
        running = [asyncio.ensure_future(worker.run(stop)) for worker in workers]
        url = url_of(host, listening[0])
        telling = asyncio.ensure_future(_tell(workers, lambda: started(url)))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([stopping, *running], return_when=asyncio.FIRST_COMPLETED)
        stop.set()  # one that could not start stops all
        for one in listening:
            one.close()
        killing = asyncio.ensure_future(kill.wait())
        ended = asyncio.ensure_future(_codes(running))
        both: list[asyncio.Future[Any]] = [ended, killing]
        await asyncio.wait(both, timeout=STOP_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for worker in workers:
            worker.kill()
        codes = await ended
        for waiting in (telling, stopping, killing):
            waiting.cancel()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.remove_signal_handler(number)
    return USAGE if USAGE in codes else 0


async def _tell(workers: Sequence[_Worker], started: Callable[[], None]) -> None:
    for worker in workers:
        await worker.ready.wait()
    started()


async def _codes(running: Sequence[asyncio.Future[int]]) -> set[int]:
    return {await one for one in running}


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker is told: the descriptor of its socket, and its place among the others."""

    fd: int
    together: Together

    def __str__(self) -> str:
        together = self.together
        return f"{self.fd}:{together.worker}:{together.workers}:{together.directory}"

    @classmethod
    def parse(cls, text: str) -> Worker:
        """The same from its text, or ValueError."""
        fd, slot, count, directory = text.split(":", 3)
        return cls(int(fd), Together(Path(directory), int(slot), int(count)))


class _Worker:
    """One process and those that follow it."""

    def __init__(
        self,
        arguments: Sequence[str],
        listening: socket.socket,
        together: Together,
        owned: int,
    ) -> None:
        self.ready = asyncio.Event()
        self._slot = together.worker
        self._fd = listening.fileno()
        self._inherited = [self._fd, owned]
        self._command = [
            *(sys.executable, "-m", "gateway", *arguments),
            *("--worker", str(Worker(self._fd, together))),
        ]
        self._process: asyncio.subprocess.Process | None = None

    async def run(self, stop: asyncio.Event) -> int:
        """Keep one running until `stop`; the last one's exit code."""
        loop = asyncio.get_running_loop()
        pause = FIRST_PAUSE_SECONDS
        while True:
            born = loop.time()
            code = await self._once(stop)
            if stop.is_set() or code == USAGE:
                return code
            log.warning("worker %d ended with %d: another one is started", self._slot, code)
            if loop.time() - born > WELL_SECONDS:
                pause = FIRST_PAUSE_SECONDS
            try:
                async with asyncio.timeout(pause):
                    await stop.wait()
            except TimeoutError:
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)
            else:
                return 0

    async def _once(self, stop: asyncio.Event) -> int:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            *self._command, pass_fds=self._inherited, stdin=pipe, stdout=pipe, env=os.environ
        )
        self._process = process
        ending = asyncio.ensure_future(process.wait())
        reading = asyncio.ensure_future(self._read(process))
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait([ending, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not ending.done():
            process.terminate()
        code = await ending
        await reading
        stopping.cancel()
        return code

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        """Its one line says that it serves; whatever follows is let through."""
        if process.stdout is not None:
            async for line in process.stdout:
                if line.startswith(b"gateway listening on "):
                    self.ready.set()
                else:
                    sys.stdout.write(line.decode(errors="replace"))

    def kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()


def inherited(fd: int) -> socket.socket:
    """A worker's socket, or ListenError when it is none."""
    try:
        listening = socket.socket(fileno=fd)
        listening.getsockname()
        listening.setblocking(False)
    except OSError as error:
        raise ListenError(f"descriptor {fd} is no socket: {error.strerror}") from error
    return listening


async def orphaned() -> None:
    """Return once our supervisor is gone: the other end of standard input is closed."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        await reader.read()
    finally:
        transport.close()
