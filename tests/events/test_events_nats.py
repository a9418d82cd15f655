"""What is the NATS adapter's own to keep: whoever stops a member is never left waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nats
import pytest

from mesh.events import Event
from mesh.events.bus import EventRefused
from mesh.store import connect
from tests.events.brokers import Running, bus_of, started
from tests.events.test_events_parked import Sender
from tests.events.ways import background, take, tell

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


async def test_an_event_above_max_payload_is_parked_and_redriven_once_the_server_takes_it(
    tmp_path: Path,
) -> None:
    """The headers count too: an event that is too large by them alone is no trouble either."""
    taken: list[tuple[str, int]] = []

    async def handle(tx: Any, event: Event) -> None:
        taken.append((event.aggregate_id, event.sequence))

    async def has(wanted: set[tuple[str, int]]) -> None:
        async with asyncio.timeout(60):
            while set(taken) != wanted:
                await asyncio.sleep(0.02)

    (tmp_path / "nats").mkdir()
    async with (
        started("nats", tmp_path / "nats") as broker,
        connect(f"sqlite:///{tmp_path}/source.db") as source,
        connect(f"sqlite:///{tmp_path}/target.db") as target,
    ):
        await broker.kill()
        broker.allow(4096)  # type: ignore[attr-defined]
        await broker.start()
        sender = Sender(source)
        await sender.tell(("a", 1), ("b", 5000), ("c", 4090), ("a", 1), ("b", 1), ("c", 1))
        async with (
            background(tell(broker.url, sender.outbox, "shop")),
            background(take(broker.url, target, "shop", "order", "desk", handle)),
        ):
            await has({("a", 1), ("a", 2)})
            parked = await sender.dead(2)
            assert ["max_payload, 4096" in letter.held.cause for letter in parked] == [True] * 2
            await broker.kill()
            broker.allow(1024 * 1024)  # type: ignore[attr-defined]
            await broker.start()
            for letter in parked:
                await sender.redrive(letter)
            await has({(name, number) for name in "abc" for number in (1, 2)})
            assert await sender.dead(0) == []
    for name in "abc":
        assert [number for each, number in taken if each == name] == [1, 2]


async def test_an_event_above_the_streams_own_limit_is_refused_by_its_name(
    brokers: Running,
) -> None:
    broker = await brokers.get("nats")
    large = replace(event(2), payload=b"x" * 1000)
    async with bus_of(broker) as bus, await nats.connect(broker.url) as connection:
        await bus.publish("sized", [event(1)])
        streams = connection.jetstream()
        config = (await streams.stream_info("events-sized")).config
        await streams.update_stream(config.evolve(max_msg_size=600))

        with pytest.raises(EventRefused, match="max_msg_size") as refused:
            await bus.publish("sized", [large])
        await bus.publish("sized", [event(3)])
    assert refused.value.event is large
