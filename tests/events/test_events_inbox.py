"""The inbox gives every event its effect once, and holds only what has to be held."""

import random

import pytest

from mesh.events import Event, Inbox
from mesh.events.held import Held
from mesh.policy.backoff import Backoff
from mesh.store import Database, StoreError, Transaction
from mesh.store.sqlite import SqliteDatabase
from mesh.testing import Clock

DAY = 24 * 3600.0


def event(position: int, aggregate_id: str = "a", payload: bytes = b"ok") -> Event:
    return Event(
        position=position,
        event_id=f"e-{position}",
        event_type="OrderCreated",
        aggregate="order",
        aggregate_id=aggregate_id,
        sequence=position,
        occurred_at=1.5,
        traceparent="",
        payload=payload,
    )


class Consumer:
    """A handler that writes a row an event, and fails on what it is told to fail on."""

    def __init__(self, database: Database, attempts: int = 3) -> None:
        self.database = database
        self.clock = Clock(1000.0)
        self.poison: set[str] = set()
        self.tried: list[str] = []
        self.inbox = Inbox(
            database,
            consumer="notifications",
            source="orders",
            handler=self.handle,
            attempts=attempts,
            backoff=Backoff(base=1.0, cap=60.0, jitter=0.0),
            clock=self.clock,
            rng=random.Random(0),
        )

    async def handle(self, tx: Transaction, event: Event) -> None:
        self.tried.append(event.event_id)
        await tx.execute(
            "insert into effect (event_id, what) values ($1, $2)",
            event.event_id,
            event.payload.decode(),
        )
        if event.event_id in self.poison:
            raise ValueError(f"{event.event_id} is poison")

    async def effects(self) -> list[str]:
        rows = await self.database.read(
            lambda tx: tx.fetch("select event_id from effect order by place")
        )
        return [row["event_id"] for row in rows]

    async def dead(self) -> list[Held]:
        return await self.database.read(self.inbox.dead)


@pytest.fixture
async def consumer(target: Database) -> Consumer:
    return Consumer(target)


async def test_an_event_delivered_twice_has_one_effect(consumer: Consumer) -> None:
    assert await consumer.inbox.position() == 0
    await consumer.inbox.deliver([event(1), event(2)])
    await consumer.inbox.deliver([event(1), event(2), event(3)])
    await consumer.inbox.deliver([event(2)])
    assert await consumer.effects() == ["e-1", "e-2", "e-3"]
    assert await consumer.inbox.position() == 3


async def test_an_event_is_known_by_its_name_not_by_its_place(consumer: Consumer) -> None:
    await consumer.inbox.deliver([event(1), event(2)])
    await consumer.inbox.rewind()
    assert await consumer.inbox.position() == 0
    await consumer.inbox.deliver([event(1), event(2), event(3)])
    assert consumer.tried == ["e-1", "e-2", "e-3"]


async def test_two_consumers_each_have_their_own_effect(
    target: Database, consumer: Consumer
) -> None:
    seen: list[str] = []

    async def audit(tx: Transaction, event: Event) -> None:
        seen.append(event.event_id)

    other = Inbox(target, consumer="audit", source="orders", handler=audit)
    await consumer.inbox.deliver([event(1)])
    await other.deliver([event(1), event(2)])
    assert (await consumer.effects(), seen) == (["e-1"], ["e-1", "e-2"])
    assert (await consumer.inbox.position(), await other.position()) == (1, 2)


async def test_a_poison_event_holds_its_own_aggregate_only(consumer: Consumer) -> None:
    consumer.poison = {"e-2"}
    kept = await consumer.inbox.deliver(
        [event(1, "a"), event(2, "b"), event(3, "a"), event(4, "b"), event(5, "c")]
    )
    assert kept
    assert await consumer.effects() == ["e-1", "e-3", "e-5"]
    assert await consumer.inbox.position() == 5
    assert not await consumer.inbox.deliver([event(6, "a")])
    assert await consumer.inbox.deliver([event(7, "b")])
    assert await consumer.effects() == ["e-1", "e-3", "e-5", "e-6"]


async def test_held_events_are_tried_under_backoff_and_then_go_in_order(
    consumer: Consumer,
) -> None:
    consumer.poison = {"e-1"}
    await consumer.inbox.deliver([event(1), event(2), event(3)])
    assert await consumer.inbox.retry() == 1001.0
    assert consumer.tried == ["e-1"], "not due yet"

    consumer.clock.advance(1.0)
    assert await consumer.inbox.retry() == 1003.0
    assert consumer.tried == ["e-1", "e-1"]

    consumer.poison = set()
    consumer.clock.advance(2.0)
    while await consumer.inbox.retry() is not None:
        pass
    assert await consumer.effects() == ["e-1", "e-2", "e-3"]
    assert not await consumer.inbox.deliver([event(4)])
    assert await consumer.effects() == ["e-1", "e-2", "e-3", "e-4"]


async def dead_letter(consumer: Consumer) -> None:
    consumer.poison = {"e-1"}
    await consumer.inbox.deliver([event(1), event(2)])
    while await consumer.inbox.retry() is not None:
        consumer.clock.advance(10.0)


async def test_an_event_that_fails_too_often_is_dead_with_its_cause(consumer: Consumer) -> None:
    await dead_letter(consumer)
    assert consumer.tried == ["e-1"] * 3
    assert await consumer.dead() == [Held(event(1), 3, "ValueError: e-1 is poison")]
    consumer.clock.advance(DAY)
    assert await consumer.inbox.retry() is None
    assert consumer.tried == ["e-1"] * 3


async def test_a_dead_event_can_be_driven_again(consumer: Consumer) -> None:
    await dead_letter(consumer)
    consumer.poison = set()
    assert not await consumer.database.transaction(lambda tx: consumer.inbox.redrive(tx, 2))
    assert await consumer.database.transaction(lambda tx: consumer.inbox.redrive(tx, 1))
    while await consumer.inbox.retry() is not None:
        pass
    assert await consumer.effects() == ["e-1", "e-2"]
    assert await consumer.dead() == []
    assert not await consumer.database.transaction(lambda tx: consumer.inbox.redrive(tx, 1))


async def test_a_dead_event_can_be_given_up(consumer: Consumer) -> None:
    await dead_letter(consumer)
    assert not await consumer.database.transaction(lambda tx: consumer.inbox.drop(tx, 2))
    assert await consumer.database.transaction(lambda tx: consumer.inbox.drop(tx, 1))
    while await consumer.inbox.retry() is not None:
        pass
    assert await consumer.effects() == ["e-2"]
    assert await consumer.dead() == []


async def test_an_event_with_one_try_is_dead_at_once(target: Database) -> None:
    consumer = Consumer(target, attempts=1)
    consumer.poison = {"e-1"}
    await consumer.inbox.deliver([event(1)])
    assert [each.event for each in await consumer.dead()] == [event(1)]


async def test_the_databases_own_trouble_is_no_fault_of_the_event(
    sqlite: SqliteDatabase,
) -> None:
    consumer = Consumer(sqlite)

    async def quota(tx: Transaction, pages: int) -> None:
        row = await tx.fetchrow("pragma page_count")
        assert row
        await tx.fetch(f"pragma max_page_count = {row[0] + pages}")

    await consumer.inbox.deliver([event(1)])
    await sqlite.transaction(lambda tx: quota(tx, 1))
    big = event(2, payload=b"x" * 100_000)
    with pytest.raises(StoreError, match="full"):
        await consumer.inbox.deliver([big])
    await sqlite.transaction(lambda tx: quota(tx, 1000))
    await consumer.inbox.deliver([big])
    assert await consumer.effects() == ["e-1", "e-2"]
    assert await consumer.dead() == []


async def test_a_statement_that_is_wrong_is_the_events_fault(target: Database) -> None:
    async def wrong(tx: Transaction, event: Event) -> None:
        await tx.execute("insert into nowhere values (1)")

    inbox = Inbox(target, consumer="c", source="s", handler=wrong, attempts=1)
    await inbox.deliver([event(1)])
    (held,) = await target.read(inbox.dead)
    assert "nowhere" in held.cause


async def test_names_are_forgotten_after_their_retention(consumer: Consumer) -> None:
    await consumer.inbox.deliver([event(1)])
    consumer.clock.advance(15 * DAY)
    await consumer.inbox.deliver([event(2)])
    rows = await consumer.database.read(lambda tx: tx.fetch("select event_id from inbox"))
    assert [row["event_id"] for row in rows] == ["e-2"]


async def test_any_order_of_any_number_of_deliveries_has_the_same_end(
    target: Database,
) -> None:
    """Batches repeated ten times, with poison that heals: one effect each, in order by thing."""
    rng = random.Random(7)
    consumer = Consumer(target, attempts=100)
    events = [event(n, f"o-{n % 7}") for n in range(1, 101)]
    consumer.poison = {f"e-{n}" for n in rng.sample(range(1, 101), 20)}
    reached = 0
    for _ in range(10):
        start, reached = rng.randint(0, reached), min(100, reached + rng.randrange(5, 20))
        await consumer.inbox.deliver(events[start:reached])
        await consumer.inbox.deliver(events[:reached])
        consumer.clock.advance(rng.uniform(0, 5))
        await consumer.inbox.retry()
        for healed in rng.sample(sorted(consumer.poison), min(3, len(consumer.poison))):
            consumer.poison.discard(healed)
    await consumer.inbox.deliver(events)
    consumer.poison = set()
    consumer.clock.advance(100.0)
    while await consumer.inbox.retry() is not None:
        consumer.clock.advance(100.0)

    effects = await consumer.effects()
    assert sorted(effects) == sorted(each.event_id for each in events)
    for thing in {each.aggregate_id for each in events}:
        of_it = [each.event_id for each in events if each.aggregate_id == thing]
        assert [name for name in effects if name in of_it] == of_it
