"""What happens to the network between the same callers and the same servers, on one link or all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from time import monotonic

from mesh.testing.network import Link
from scripts.trials.stage import CONTENDERS, Stage, staged

PAIR = CONTENDERS[:2]
QUIET = 1.0
# How often connections are reset.
RESET_EVERY = 0.5
# Seconds each way, where calls take three milliseconds.
SLOW = 0.2
LOSS = 0.05


@asynccontextmanager
async def blackholed(
    seconds: float = 5.0, *, contenders: Sequence[str] = PAIR
) -> AsyncIterator[Stage]:
    """One server's packets vanish, both ways, without a word."""
    async with _faulty(contenders) as (stage, links):
        links[0].set(blackhole=True)
        await asyncio.sleep(seconds)
        links[0].set(blackhole=False)
        await asyncio.sleep(QUIET)
        yield stage


@asynccontextmanager
async def reset(seconds: float = 5.0, *, contenders: Sequence[str] = PAIR) -> AsyncIterator[Stage]:
    """One server's connections are broken by RST, again and again."""
    async with _faulty(contenders) as (stage, links):
        until = monotonic() + seconds
        while monotonic() < until:
            links[0].reset()
            await asyncio.sleep(RESET_EVERY)
        yield stage


@asynccontextmanager
async def slowed(seconds: float = 5.0, *, contenders: Sequence[str] = PAIR) -> AsyncIterator[Stage]:
    """One server is far away of a sudden; it answers all, late."""
    async with _faulty(contenders) as (stage, links):
        links[0].set(latency=SLOW)
        await asyncio.sleep(seconds)
        links[0].set(latency=0.0)
        await asyncio.sleep(QUIET)
        yield stage


@asynccontextmanager
async def lossy(seconds: float = 5.0, *, contenders: Sequence[str] = PAIR) -> AsyncIterator[Stage]:
    """Of all that is sent, each way and to all servers, 5 % comes a retransmission later."""
    async with _faulty(contenders) as (stage, links):
        for link in links:
            link.set(loss=LOSS)
        await asyncio.sleep(seconds)
        for link in links:
            link.set(loss=0.0)
        await asyncio.sleep(QUIET)
        yield stage


@asynccontextmanager
async def _faulty(contenders: Sequence[str]) -> AsyncIterator[tuple[Stage, list[Link]]]:
    async with staged(linked=True, contenders=contenders) as stage:
        await asyncio.sleep(QUIET)
        yield stage, [replica.link for replica in stage.replicas if replica.link is not None]
