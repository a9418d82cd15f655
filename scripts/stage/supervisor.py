"""
Programs in groups: started group after group, kept running, stopped in reverse order.

    async with Supervisor(logs, say) as supervisor:
        await supervisor.start([registry])
        await supervisor.start([orders_1, orders_2])     # side by side
        ...
    # gateway, then services side by side, then registry: all within STOP_SECONDS

What is left of a group when its time is up is killed, with everything it started.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from scripts.stage.child import Child, Log, Program

STOP_SECONDS = 9.0
# Kept for each group that stops later, however long an earlier one takes.
SHARE_SECONDS = 1.0


class Supervisor:
    """`say(name, text)` hears what happens; each program's output is kept under `logs`."""

    def __init__(self, logs: Path, say: Callable[[str, str], None]) -> None:
        self._logs = logs
        self.say = say
        self._groups: list[list[Child]] = []

    async def __aenter__(self) -> Self:
        self._logs.mkdir(parents=True, exist_ok=True)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def children(self) -> dict[str, Child]:
        return {child.program.name: child for group in self._groups for child in group}

    async def start(self, programs: Sequence[Program], seconds: float) -> None:
        """Start a group and wait until all are ready; Died or TimeoutError when one is not."""
        group = [
            Child(program, Log(self._logs / f"{program.name}.log"), self.say)
            for program in programs
        ]
        self._groups.append(group)
        done, late = await asyncio.wait(
            [child.started for child in group],
            timeout=seconds,
            return_when=asyncio.FIRST_EXCEPTION,
        )
        for started in done:
            started.result()
        if late:
            names = [child.program.name for child in group if child.started in late]
            raise TimeoutError(f"{', '.join(names)} not ready after {seconds:.0f} s")

    async def stop(self) -> None:
        """Stop all groups, the last started first."""
        end = time.monotonic() + STOP_SECONDS
        while self._groups:
            left = end - time.monotonic() - SHARE_SECONDS * (len(self._groups) - 1)
            await asyncio.gather(*(child.stop(left) for child in self._groups[-1]))
            self._groups.pop()

    def kill(self) -> None:
        """End everything now."""
        for child in self.children.values():
            child.signal(signal.SIGKILL)
