"""
Cancelled calls leave no memory behind: losers of hedges, and callers that gave up.

grpc.aio itself never frees what a call holds whose task was cancelled, about 1 KB
(grpc/grpc#43360).  The mesh never lets a cancellation reach grpc's own task: it tells the core, and
the batch that is under way ends by itself and frees what it holds.
"""

from __future__ import annotations

import asyncio
import sys

import pytest

from scripts.environment import ROOT

# Bytes a call; noise of the allocator is a tenth of it, the leak is four times as much and more.
MOST = 300


async def left(how: str, *, calls: int, burst: int) -> int:
    """Bytes that each call leaves behind, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "scripts.trials.soak", how),
        *(f"--calls={calls}", f"--burst={burst}"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 100)
    assert process.returncode == 0
    return int(said)


async def test_the_loser_of_a_hedge_leaves_nothing_behind() -> None:
    assert await left("hedge", calls=1000, burst=10) < MOST


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "burst", "calls"),
    [
        ("hedge", 1, 3_000),
        ("hedge", 50, 10_000),
        ("mesh", 1, 3_000),
        ("mesh", 50, 10_000),
        ("mesh-stream", 50, 10_000),
    ],
)
async def test_a_soak_of_cancellations_does_not_grow(how: str, burst: int, calls: int) -> None:
    assert await left(how, calls=calls, burst=burst) < MOST


@pytest.mark.slow
async def test_with_grpcs_public_cancel_alone_it_would() -> None:
    """Once this fails, grpc frees it by itself, and mesh/client/cancelling.py can go."""
    assert await left("public", calls=3_000, burst=1) > MOST
