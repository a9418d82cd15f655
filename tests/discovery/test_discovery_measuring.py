"""What scripts/bench --discovery says of watchers is what happened: each change is seen, once."""

from __future__ import annotations

import asyncio

from scripts.measuring.agents import embedded
from scripts.measuring.watchers import NAME, block, said, watched

CHANGES = 6


async def test_every_change_is_timed_from_before_it_was_made_until_it_is_known() -> None:
    async with embedded() as agent:
        await agent.register(NAME, 0)
        wire = await asyncio.to_thread(block, agent.port, CHANGES)
        whole, after = await watched(agent, CHANGES)

    assert len(wire) == len(whole) == len(after) == CHANGES
    assert all(delay > 0 for delay in wire)
    # The agent's answer comes after the change and before the snapshot that it makes.
    assert all(0 < late < delay for late, delay in zip(after, whole, strict=True))


def test_delays_are_told_in_milliseconds_by_their_middle_and_their_end() -> None:
    found = said([number / 1e3 for number in range(1, 101)], "watch")

    assert {name: round(value, 6) for name, value in found.items()} == {
        "watch ms p50": 50.5,
        "watch ms p99": 100.0,
    }
