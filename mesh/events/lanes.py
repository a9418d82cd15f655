"""
Lanes: events of one aggregate one after another, those of different aggregates side by side.

    a1 b1 a2 c1 b2   ->   a1 . a2      the next one of a lane goes when the one before it is the
                          b1 . b2      broker's: what failed is never overtaken by what follows it
                          c1
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

from mesh.events.event import Event


def lanes(events: Iterable[Event]) -> list[list[Event]]:
    """The events by aggregate, each lane in its order."""
    found: dict[tuple[str, str], list[Event]] = {}
    for event in events:
        found.setdefault((event.aggregate, event.aggregate_id), []).append(event)
    return list(found.values())


async def in_lanes(events: Iterable[Event], send: Callable[[Event], Awaitable[object]]) -> None:
    """
    `send` every event; the first failure is raised, once what was being sent beside it is settled.

    Nothing is begun after a failure; nor is anything broken off, which would leave clients waiting
    for answers that nobody listens to.
    """
    failures: list[Exception] = []

    async def follow(lane: list[Event]) -> None:
        for event in lane:
            if failures:
                return
            try:
                await send(event)
            except Exception as error:  # noqa: BLE001 - raised below
                failures.append(error)

    async with asyncio.TaskGroup() as tasks:
        for lane in lanes(events):
            tasks.create_task(follow(lane))
    if failures:
        raise failures[0]
