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
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from scripts.environment import ROOT

TETHER = ROOT / "scripts" / "stage" / "tether.py"
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
        port: int,
        folder: Path,
        environment: Mapping[str, str],
        strace: Path | None = None,
        lives: Sequence[Kill | None] = (),
        wrapper: Sequence[str] = (),
    ) -> None:
        self.kills = 0
        self.killed_at = 0.0
        self.broken = ""
        self._command = (sys.executable, "-P", "-m", f"services.{service}", f"--port={port}")
        self._service = service
        self._strace = strace
        self._folder = folder
        self._environment = {**os.environ, **environment}
        self._lives = lives
        # What runs the command when no life is left.
        self._wrapper = tuple(wrapper)
        self._stopping = False
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Victim:
        self._keeping = asyncio.create_task(self._keep())
        return self

    async def __aexit__(self, *reason: object) -> None:
        self._stopping = True
        self._kill()
        await self._keeping

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def trace(self, life: int) -> Path:
        """Where the calls of a life that is not killed are written down."""
        return self._folder / f"{self._service}-{life}.trace"

    async def _keep(self) -> None:
        life = 0
        while not self._stopping and not self.broken:
            kill = self._lives[life] if life < len(self._lives) else None
            log = self._folder / f"{self._service}-{life}.log"
            with log.open("wb") as output:
                self._process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", str(TETHER), str(os.getpid())),
                    *self._traced(life, kill),
                    *self._command,
                    cwd=ROOT,
                    env=self._environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                )
            if self._stopping:
                self._kill()
            code = await self._process.wait()
            if self._stopping:
                return
            if kill is None or code != -signal.SIGKILL:
                said = log.read_text(errors="replace").splitlines()[-LAST_LINES:]
                self.broken = f"its life {life} ended with {code}: {' / '.join(said)}"
            self.kills += 1
            self.killed_at = time.monotonic()
            life += 1

    def _traced(self, life: int, kill: Kill | None) -> tuple[str, ...]:
        # -I2: with -o it would not hear the tether.
        strace = (str(self._strace), "-f", "-qq", "-I2")
        if kill is not None:
            # Without --seccomp-bpf: strace 6.1 sends no signals under it.
            inject = f"inject={kill.call}:signal=KILL:when={kill.nth}"
            return (*strace, "-e", f"trace={kill.call}", "-e", inject, "-o", os.devnull)
        if life < len(self._lives):
            calls = f"trace={','.join(CALLS)}"
            return (*strace, "--seccomp-bpf", "-e", calls, "-o", str(self.trace(life)))
        return self._wrapper

    def _kill(self) -> None:
        """strace and what it traces: one session of their own."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


def counts(trace: Path) -> dict[str, int]:
    """How often each call was made, by the thread that made it most."""
    made = Counter(re.findall(r"^(\d+) +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE))
    most: dict[str, int] = {}
    for (_, call), count in made.items():
        most[call] = max(most.get(call, 0), count)
    return {call: most[call] for call in CALLS if call in most}
