"""
A service that strace kills with -9 at its Nth system call of one kind, and that is started again.

    lives[0] --> killed at its Nth pwrite64 --> lives[1] --> ... --> one that nobody kills

strace counts the calls of each thread apart, so "the 7th" is the first thread's that makes seven.
A life that ends in any other way is `broken`: the text says how.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scripts.crashing.nursery import Life, Nursery

# Everything by which a process tells others, or its disk, something.
CALLS = (
    *("write", "writev", "pwrite64", "pwritev", "fsync", "fdatasync"),
    *("sendto", "sendmsg", "ftruncate", "unlink", "rename"),
)
LAST_LINES = 5


@dataclass(frozen=True, slots=True)
class Kill:
    """kill -9 when a thread makes its `nth` call of this name."""

    call: str
    nth: int

    def __str__(self) -> str:
        return f"{self.call} {self.nth}"


class Victim:
    """One service process, kept running as long as the `async with` lasts."""

    def __init__(
        self,
        service: str,
        host: str,
        port: int,
        folder: Path,
        environment: Mapping[str, str],
        nursery: Nursery,
        lives: Sequence[Kill | None],
    ) -> None:
        self.kills = 0
        self.killed_at = 0.0
        self.broken = ""
        self._service = service
        self._place = (host, port)
        self._folder = folder
        self._environment = environment
        self._nursery = nursery
        self._lives = lives
        self._life: Life | None = None
        self._stopping = False

    async def __aenter__(self) -> Victim:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._stopping = True
        if self._life is not None:
            self._life.kill()
        await self._keeping

    def trace(self, life: int) -> Path:
        """Where the calls of a life that is not killed are written down."""
        return self._folder / f"{self._service}-{life}.trace"

    async def _keep(self) -> None:
        number = 0
        while not self._stopping and not self.broken:
            try:
                await self._live(number)
            except RuntimeError as why:
                self.broken = str(why)
            number += 1

    async def _live(self, number: int) -> None:
        log = self._folder / f"{self._service}-{number}.log"
        async with self._nursery.life(
            self._service, *self._place, self._environment, log, self._tracing(number)
        ) as self._life:
            if self._stopping:
                return
            code = await self._life.ended
        if self._stopping:
            return
        if self._kill(number) is None or code != -signal.SIGKILL:
            said = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
            self.broken = f"its life {number} ended with {code}: {' / '.join(said)}"
        self.kills += 1
        self.killed_at = time.monotonic()

    def _kill(self, number: int) -> Kill | None:
        return self._lives[number] if number < len(self._lives) else None

    def _tracing(self, number: int) -> tuple[str, ...]:
        """What strace is to do to a life."""
        if kill := self._kill(number):
            inject = f"inject={kill.call}:signal=KILL:when={kill.nth}"
            return ("-e", f"trace={kill.call}", "-e", inject, "-o", os.devnull)
        if number < len(self._lives):
            return ("-e", f"trace={','.join(CALLS)}", "-o", str(self.trace(number)))
        return ()


def counts(trace: Path) -> dict[str, int]:
    """How often each call was made, by the thread that made it most."""
    made = Counter(re.findall(r"^(\d+) +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    most: dict[str, int] = {}
    for (_, call), count in made.items():
        most[call] = max(most.get(call, 0), count)
    return {call: most[call] for call in CALLS if call in most}
