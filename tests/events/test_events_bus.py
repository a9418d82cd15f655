"""What every adapter promises of a bus itself, on a real broker each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from itertools import count

import pytest

from mesh.events import Event
from mesh.events.bus import Bus, BusError, EventRefused, Unheard
from mesh.events.envelope import word
from tests.events.brokers import BROKERS, PATIENT, SORTS, Broker, Running, bus_of
from tests.events.ways import background

SECONDS = 60.0
# Brokers whose queues are kept for groups, and which so refuse what no group would hear.
QUEUES = ("amqp://", "sqs://")
_NUMBERS = count(1)


class Place:
    """A broker's place for one test: a source and a topic that no other test has."""

    def __init__(self, broker: Broker, bus: Bus, number: int) -> None:
        self.broker, self.bus = broker, bus
        self.source, self.topic = f"bus {number} >", f"thing-{number}"

    def events(self, count: int, aggregates: int) -> list[Event]:
        return [
            Event(
                n + 1,
                f"{self.topic}-{n + 1}",
                "Made",
                self.topic,
                f"o-{n % aggregates}",
                n // aggregates + 1,
                1.5,
                "",
                b"x",
            )
            for n in range(count)
        ]

    async def publish(self, events: Sequence[Event]) -> None:
        await self.bus.publish(self.source, events)

    async def declare(self, *groups: str) -> None:
        for group in groups:
            await self.bus.declare(self.source, group, [self.topic])


@pytest.fixture(params=BROKERS)
async def broker(request: pytest.FixtureRequest, brokers: Running) -> Broker:
    return await brokers.get(request.param)


@pytest.fixture
async def place(broker: Broker) -> AsyncIterator[Place]:
    async with bus_of(broker) as bus:
        place = Place(broker, bus, next(_NUMBERS))
        await broker.prepare(place.topic, f"{place.topic}.desk.{word(place.source)}.dead")
        yield place


class Group:
    """Members of one group write down what they are given, who was given what, in its order."""

    def __init__(self, place: Place, name: str = "desk") -> None:
        self.place, self.name = place, name
        self.seen: list[Event] = []
        self.by: dict[str, list[Event]] = {}
        self.faults: dict[str, int] = {}
        self.hold = asyncio.Event()
        self.hold.set()

    @asynccontextmanager
    async def member(self, name: str = "one", bus: Bus | None = None) -> AsyncIterator[None]:
        async def take(batch: Sequence[Event]) -> None:
            await self.hold.wait()
            for each in batch:
                if self.faults.get(each.event_id, 0):
                    self.faults[each.event_id] -= 1
                    raise BusError("test", f"not {each.event_id} now")
                self.seen.append(each)
                self.by.setdefault(name, []).append(each)
                await asyncio.sleep(0)

        async def consume() -> None:
            while True:
                with suppress(BusError):
                    await (bus or self.place.bus).consume(
                        self.place.source, self.name, [self.place.topic], take
                    )
                await asyncio.sleep(0.1)

        async with background(consume()):
            yield

    async def has(self, wanted: Sequence[Event]) -> None:
        """Wait until each of these was seen; each aggregate's events are first seen in order."""
        names = {each.event_id for each in wanted}
        await until(lambda: {each.event_id for each in self.seen} == names)
        first = list(dict.fromkeys(self.seen))
        for aggregate_id in {each.aggregate_id for each in wanted}:
            numbers = [each.sequence for each in first if each.aggregate_id == aggregate_id]
            assert numbers == sorted(numbers), aggregate_id


class TestBus:
    """Held by every adapter."""

    async def test_what_is_published_again_or_comes_again_is_in_order_at_first_sight(
        self, place: Place
    ) -> None:
        group, sent = Group(place), place.events(60, 3)
        group.faults = {sent[0].event_id: 1, sent[19].event_id: 2, sent[32].event_id: 1}
        await place.declare("desk")
        for _ in range(2):
            await place.publish(sent)
        async with group.member():
            await group.has(sent)
        assert not any(group.faults.values())

    @pytest.mark.parametrize("broker", PATIENT, indirect=True)
    async def test_a_member_that_leaves_in_the_middle_is_followed_by_another(
        self, place: Place
    ) -> None:
        group, sent = Group(place), place.events(90, 9)
        await place.declare("desk")
        await place.publish(sent)
        async with bus_of(place.broker) as other, group.member("two", other):
            group.hold.clear()  # whoever is given something holds it
            async with group.member("one"):
                await asyncio.sleep(1.0)
            group.hold.set()
            await group.has(sent)

    @pytest.mark.parametrize("broker", PATIENT, indirect=True)
    async def test_members_come_and_go_and_the_order_is_kept(self, place: Place) -> None:
        group = Group(place)
        await place.declare("desk")
        sent = place.events(300, 40)
        async with bus_of(place.broker) as other, group.member("one"):
            await place.publish(sent[:100])
            async with group.member("two", other):
                await place.publish(sent[100:200])
                await until(lambda: len(set(group.seen)) >= 100)
            await place.publish(sent[200:])
            await group.has(sent)

    async def test_sources_are_told_apart(self, place: Place) -> None:
        group = Group(place)
        (event,) = place.events(1, 1)
        other = "other shop.>"
        await place.declare("desk")
        await place.bus.declare(other, "desk", [place.topic])
        await place.bus.publish(other, place.events(5, 5)[1:])
        await place.publish([event])
        async with group.member():
            await group.has([event])

    async def test_what_nobody_would_hear_is_kept_or_refused(self, place: Place) -> None:
        group, sent = Group(place), place.events(5, 2)
        if place.broker.url.startswith(QUEUES):
            with pytest.raises(Unheard, match="nobody subscribes"):
                await place.publish(sent)
            await place.declare("desk")
        await place.publish(sent)
        async with group.member():
            await group.has(sent)

    async def test_a_message_that_is_no_event_is_put_aside_and_holds_up_nothing(
        self, place: Place
    ) -> None:
        group, sent = Group(place), place.events(20, 20)
        await place.declare("desk")
        await place.publish(sent[:10])
        await place.broker.put(place.source, place.topic, b"no event")
        await place.publish(sent[10:])
        async with group.member():
            await group.has(sent)
            body, cause = await place.broker.dead(place.source, "desk", place.topic)
        assert body == b"no event"
        assert "no header" in cause or cause.startswith("rejected from events.")

    async def test_an_event_that_is_too_large_is_refused_for_good_and_holds_up_nothing(
        self, place: Place
    ) -> None:
        group = Group(place)
        *sent, last = place.events(4, 4)
        large = replace(last, payload=b"x" * 1_500_000)
        await place.declare("desk")
        with pytest.raises(BusError):
            await place.publish([large, *sent])
        for _ in range(2):
            with pytest.raises(EventRefused, match=large.event_id) as refused:
                await place.publish([large])
            assert refused.value.event is large
        await place.publish(sent)
        async with group.member():
            await group.has(sent)

    async def test_a_broker_that_is_away_is_said_and_not_waited_for(self, place: Place) -> None:
        sent = place.events(2, 1)
        await place.declare("desk")
        await place.publish(sent[:1])
        await place.broker.kill()
        try:
            with pytest.raises(BusError):
                await asyncio.wait_for(place.publish(sent[1:]), 15)
            with pytest.raises(BusError):
                async with asyncio.timeout(15), bus_of(place.broker):
                    pass
        finally:
            await place.broker.start()
        group = Group(place)
        async with asyncio.timeout(SECONDS):
            while True:
                with suppress(BusError):
                    await place.publish(sent)
                    break
                await asyncio.sleep(0.05)
        async with group.member():
            await group.has(sent)


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.02)


async def test_a_broker_that_can_not_be_had_skips_every_test_of_it(tmp_path, monkeypatch):
    monkeypatch.setitem(SORTS, "nowhere", ("nats_server", "no_client_of_this_name"))
    async with Running(tmp_path) as running:
        for _ in range(2):
            with pytest.raises(pytest.skip.Exception, match="no_client_of_this_name"):
                await running.get("nowhere")
