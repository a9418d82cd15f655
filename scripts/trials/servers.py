"""What happens to servers: one hangs, each is killed in turn, each is restarted in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from scripts.trials.stage import CONTENDERS, REPLICAS, Replica, Stage, staged

PAIR = CONTENDERS[:2]
# A second of quiet before and after, so that every trial begins and ends on a good day.
QUIET = 1.0
# How long a killed server stays away.
AWAY = 1.0
# How long to wait for something that must happen.
LONG = 40.0


@asynccontextmanager
async def hung(
    seconds: float = 10.0, *, writes: bool = False, contenders: Sequence[str] = PAIR
) -> AsyncIterator[Stage]:
    """One replica is stopped by SIGSTOP for `seconds`: connections stand and nothing answers."""
    async with staged(writes=writes, watched=False, contenders=contenders) as stage:
        await asyncio.sleep(QUIET)
        replica = stage.replicas[0]
        began = monotonic()
        replica.server.freeze()
        await stage.until(lambda: stage.witness.ejected(replica.endpoint, began), seconds)
        await asyncio.sleep(max(0.0, began + seconds - monotonic()))
        ejected = stage.witness.ejected(replica.endpoint, began)
        thawed = monotonic()
        replica.server.thaw()
        back = await stage.answering(replica, LONG)
        await asyncio.sleep(QUIET)
        until = thawed if ejected is None else ejected
        reached = stage.witness.attempts(replica.endpoint, began, until)
        during = stage.witness.attempts(replica.endpoint, began, thawed)
        stage.hung = (began, until)
        stage.notes["reached"] = str(reached)
        stage.notes["ejected after"] = "never" if ejected is None else f"{ejected - began:.2f} s"
        stage.notes["reached while hung"] = str(during)
        stage.notes["back after"] = "never" if back is None else f"{back:.1f} s"
        yield stage


@asynccontextmanager
async def stalled(
    seconds: float = 0.7, *, pauses: int = 3, contenders: Sequence[str] = PAIR
) -> AsyncIterator[Stage]:
    """All replicas stop at once for a moment, as when their host has no time for them."""
    async with staged(contenders=contenders) as stage:
        for _ in range(pauses):
            await asyncio.sleep(2 * QUIET)
            for replica in stage.replicas:
                replica.server.freeze()
            await asyncio.sleep(seconds)
            for replica in stage.replicas:
                replica.server.thaw()
        await asyncio.sleep(2 * QUIET)
        stage.notes["stalled"] = f"{pauses} times for {seconds:g} s"
        yield stage


@asynccontextmanager
async def killed(
    calls: int = 2_000, *, turns: int = REPLICAS, contenders: Sequence[str] = PAIR
) -> AsyncIterator[Stage]:
    """Each replica in turn is killed by SIGKILL and started again, for `turns` and `calls`."""
    async with staged(contenders=contenders) as stage:
        await asyncio.sleep(QUIET)
        kills = 0
        while stage.mesh.sent < calls or kills < turns:
            replica = stage.replicas[kills % len(stage.replicas)]
            await replica.server.kill()
            await asyncio.sleep(AWAY)
            await _back(stage, replica)
            kills += 1
        stage.notes["killed"] = str(kills)
        yield stage


@asynccontextmanager
async def rolled(
    calls: int = 2_000, *, writes: bool = False, contenders: Sequence[str] = PAIR
) -> AsyncIterator[Stage]:
    """Each replica in turn drains on SIGTERM and is started again, until `calls` were made."""
    async with staged(writes=writes, contenders=contenders) as stage:
        await asyncio.sleep(QUIET)
        turns = 0
        while stage.mesh.sent < calls or turns < len(stage.replicas):
            replica = stage.replicas[turns % len(stage.replicas)]
            await replica.server.stop()
            await _back(stage, replica)
            turns += 1
        stage.notes["restarted"] = str(turns)
        yield stage


async def _back(stage: Stage, replica: Replica) -> None:
    await replica.server.start()
    took = await stage.answering(replica, LONG)
    if took is None:
        raise TimeoutError(f"{replica.name} was started again and is not asked")
    await asyncio.sleep(QUIET)
