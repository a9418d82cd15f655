"""What every bus promises, on a real broker each: order by aggregate, at least once, none lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mesh.events import Event, Message, Outbox
from mesh.events.bus import Bus, BusError
from mesh.events.envelope import headers, opened
from mesh.events.relay import Relay
from mesh.events.subscribe import subscribe
from mesh.store import Database, Transaction, connect
from tests.events.brokers import Broker, running

SECONDS = 60.0


@pytest.fixture(params=["nats"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Broker]:
    """A broker of each sort in turn."""
    directory = tmp_path / "broker"
    directory.mkdir()
    async with running(request.param, directory) as broker:
        yield broker


@pytest.fixture
async def bus(broker: Broker) -> AsyncIterator[Bus]:
    async with broker.bus() as bus:
        yield bus


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Database]:
    async with connect(f"sqlite:///{tmp_path}/shop.db") as database:
        yield database


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Database]:
    async with connect(f"sqlite:///{tmp_path}/desk.db") as database:
        await database.migrate("seen", ["create table seen (aggregate_id text, sequence bigint)"])
        yield database


def event(number: int, aggregate_id: str, sequence: int) -> Event:
    return Event(number, f"e-{number}", "Made", "order", aggregate_id, sequence, 1.5, "", b"x")


def events(count: int, aggregates: int) -> list[Event]:
    return [event(n + 1, f"o-{n % aggregates}", n // aggregates + 1) for n in range(count)]


class Group:
    """Members of one group write down what they are given, who was given what, in its order."""

    def __init__(self, bus: Bus, name: str = "desk") -> None:
        self.bus, self.name = bus, name
        self.seen: list[Event] = []
        self.by: dict[str, int] = {}
        self.faults: dict[str, int] = {}

    @asynccontextmanager
    async def member(self, name: str = "one", bus: Bus | None = None) -> AsyncIterator[None]:
        async def take(batch: Sequence[Event]) -> None:
            for each in batch:
                if self.faults.get(each.event_id, 0):
                    self.faults[each.event_id] -= 1
                    raise BusError("test", f"not {each.event_id} now")
                self.seen.append(each)
                self.by[name] = self.by.get(name, 0) + 1
                await asyncio.sleep(0)

        async def consume() -> None:
            while True:
                with suppress(BusError):
                    await (bus or self.bus).consume("shop", self.name, take)

        async with background(consume()):
            yield

    async def has(self, wanted: Sequence[Event]) -> None:
        """Wait until each of these was seen; each aggregate's events are first seen in order."""
        names = {each.event_id for each in wanted}
        async with asyncio.timeout(SECONDS):
            while {each.event_id for each in self.seen} != names:
                await asyncio.sleep(0.02)
        first = list(dict.fromkeys(self.seen))
        for aggregate_id in {each.aggregate_id for each in wanted}:
            numbers = [each.sequence for each in first if each.aggregate_id == aggregate_id]
            assert numbers == sorted(numbers), aggregate_id


@asynccontextmanager
async def background(work: Awaitable[Any]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class TestBus:
    """Held by every adapter."""

    async def test_events_arrive_as_they_were_in_order_by_aggregate(self, bus: Bus) -> None:
        group, sent = Group(bus), events(200, 7)
        await bus.publish("shop", sent)
        async with group.member():
            await group.has(sent)
        assert sorted(group.seen, key=lambda each: each.position) == sent

    async def test_what_was_published_before_anyone_listened_is_kept(self, bus: Bus) -> None:
        early, late = events(20, 3)[:10], events(20, 3)[10:]
        group = Group(bus)
        await bus.publish("shop", early)
        async with group.member():
            await group.has(early)
        await bus.publish("shop", late)
        async with group.member():
            await group.has(early + late)

    async def test_what_is_published_again_is_seen_once(self, bus: Bus) -> None:
        group, sent = Group(bus), events(20, 3)
        for _ in range(3):
            await bus.publish("shop", sent)
        async with group.member():
            await group.has(sent)
            assert len(group.seen) >= 20

    async def test_what_could_not_be_taken_comes_again_before_what_follows_it(
        self, bus: Bus
    ) -> None:
        group, sent = Group(bus), events(60, 3)
        group.faults = {"e-1": 1, "e-20": 2, "e-33": 1}
        await bus.publish("shop", sent)
        async with group.member():
            await group.has(sent)
        assert group.faults == {"e-1": 0, "e-20": 0, "e-33": 0}

    async def test_members_share_the_work_and_keep_the_order(
        self, broker: Broker, bus: Bus
    ) -> None:
        group, sent = Group(bus), events(300, 20)
        async with (
            broker.bus() as other,
            group.member("one"),
            group.member("two", other),
        ):
            await bus.publish("shop", sent)
            await group.has(sent)
        assert set(group.by) == {"one", "two"}

    async def test_each_group_has_every_event(self, bus: Bus) -> None:
        groups, sent = (Group(bus, "desk"), Group(bus, "audit")), events(30, 4)
        async with groups[0].member(), groups[1].member():
            await bus.publish("shop", sent)
            for group in groups:
                await group.has(sent)

    async def test_sources_are_told_apart(self, bus: Bus) -> None:
        group = Group(bus)
        await bus.publish("other shop.>", [event(9, "o-9", 1)])
        await bus.publish("shop", [event(1, "o-1", 1)])
        async with group.member():
            await group.has([event(1, "o-1", 1)])

    async def test_a_broker_that_is_away_is_said_and_not_waited_for(
        self, broker: Broker, bus: Bus
    ) -> None:
        await bus.publish("shop", events(1, 1))
        await broker.kill()
        with pytest.raises(BusError):
            await asyncio.wait_for(bus.publish("shop", events(2, 1)), 10)
        with pytest.raises(BusError):
            async with broker.bus():
                pass

    async def test_a_broker_killed_again_and_again_loses_nothing_and_no_order(
        self, broker: Broker, bus: Bus, shop: Database, desk: Database
    ) -> None:
        """The whole way: outbox, relay, broker, inbox; one effect an event."""
        outbox = Outbox(shop)
        relaying = Relay(outbox, bus, source="shop").run()
        taking = subscribe(bus, desk, consumer="desk", source="shop", handler=note)
        async with background(relaying), background(taking):
            for turn in range(3):
                await append(outbox, *(f"o-{n % 9}" for n in range(90)))
                await effects(desk, turn * 90 + 10)
                await broker.kill()
                await append(outbox, "o-0")
                await broker.start()
            rows = await effects(desk, 273)
        for aggregate_id in {row[0] for row in rows}:
            numbers = [number for name, number in rows if name == aggregate_id]
            assert numbers == list(range(1, len(numbers) + 1))

    async def test_of_two_relays_one_relays_and_the_other_takes_over(
        self, bus: Bus, shop: Database
    ) -> None:
        group, outbox = Group(bus), Outbox(shop)
        first = asyncio.ensure_future(Relay(outbox, bus, source="shop").run())
        async with group.member():
            await append(outbox, *"abcabc")
            async with background(Relay(outbox, bus, source="shop").run()):
                await until(lambda: len(group.seen) == 6)
                first.cancel()
                await asyncio.gather(first, return_exceptions=True)
                await append(outbox, *"abcabc")
                await until(lambda: len(group.seen) == 12)
        assert len({each.event_id for each in group.seen}) == 12


def test_an_envelope_keeps_every_name_as_it_was() -> None:
    odd = Event(7, "e\r\n1", "Ünï: c%ode", "", "a=b; c, d", 3, 1e9 + 0.25, "00-ab-cd-01", b"\x00")
    fields = headers(odd)

    assert opened(fields, odd.payload) == odd
    assert all(value.isascii() and value.isprintable() for value in fields.values())


async def note(tx: Transaction, event: Event) -> None:
    await tx.execute("insert into seen values ($1, $2)", event.aggregate_id, event.sequence)


async def append(outbox: Outbox, *aggregate_ids: str) -> None:
    async def work(tx: Transaction) -> None:
        for each in aggregate_ids:
            await outbox.append(tx, Message("Made", "order", each, b"x"))

    await outbox.database.transaction(work)


async def effects(database: Database, count: int) -> list[tuple[str, int]]:
    """What was noted, in its order, once there is as much."""
    async with asyncio.timeout(SECONDS):
        async for _ in database.changes():
            rows = await database.read(lambda tx: tx.fetch("select * from seen order by rowid"))
            if len(rows) >= count:
                return [(row["aggregate_id"], row["sequence"]) for row in rows]
    raise AssertionError("the database was closed")


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not true():
            await asyncio.sleep(0.02)
