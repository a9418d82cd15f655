"""What is the NATS adapter's own to keep: whoever stops a member is never left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from mesh.events import Event
from tests.events.brokers import Running, bus_of

STOPS = 40


def event(number: int) -> Event:
    return Event(number, f"stop-{number}", "Made", "thing", f"o-{number}", 1, 1.5, "", b"x")


async def test_a_member_stops_whatever_arrives_in_that_moment(brokers: Running) -> None:
    """A cancellation that meets a message is not lost (asyncio.wait_for before 3.12)."""
    broker = await brokers.get("nats")
    taken: set[str] = set()

    async def take(batch: Sequence[Event]) -> None:
        taken.update(each.event_id for each in batch)

    async with bus_of(broker) as bus:
        for number in range(1, STOPS + 1):
            member = asyncio.ensure_future(bus.consume("stops", "desk", ["thing"], take))
            await asyncio.sleep(0.02)
            # The message is on its way to the member while the member is told to stop.
            published = asyncio.ensure_future(bus.publish("stops", [event(number)]))
            for _ in range(number // 4):
                await asyncio.sleep(0)
            member.cancel()
            await published
            done, _ = await asyncio.wait([member], timeout=10)
            assert done, f"stop {number} was not heard"

        member = asyncio.ensure_future(bus.consume("stops", "desk", ["thing"], take))
        async with asyncio.timeout(60):
            while len(taken) < STOPS:
                await asyncio.sleep(0.01)
        member.cancel()
        await asyncio.wait([member], timeout=10)
