"""The outbox tells what was committed, in order, and forgets what nobody needs."""

import asyncio

import pytest

from mesh.events import Event, Message, Outbox
from mesh.events import inbox as inboxes
from mesh.events import outbox as outboxes
from mesh.store import Database, Transaction, connect
from mesh.testing import Clock
from tests.events.conftest import appended

DAY = 24 * 3600.0


def message(aggregate_id: str, payload: bytes = b"", aggregate: str = "order") -> Message:
    return Message("OrderCreated", aggregate, aggregate_id, payload, traceparent="00-ab-cd-01")


async def append(outbox: Outbox, *messages: Message) -> list[Event]:
    return await outbox.database.transaction(lambda tx: appended(tx, outbox, *messages))


async def told(outbox: Outbox, after: int = 0, *aggregates: str) -> list[Event]:
    return await outbox.database.read(lambda tx: outbox.after(tx, after, 100, aggregates))


async def test_events_are_numbered_by_thing_and_placed_by_commit(source: Database) -> None:
    outbox = Outbox(source, clock=Clock(1000.0))
    a1, b1 = await append(outbox, message("a", b"1"), message("b", b"2"))
    (a2,) = await append(outbox, message("a", b"3"))

    assert await told(outbox) == [a1, b1, a2]
    assert [(e.aggregate_id, e.sequence, e.payload) for e in (a1, b1, a2)] == [
        ("a", 1, b"1"),
        ("b", 1, b"2"),
        ("a", 2, b"3"),
    ]
    assert a1.position < b1.position < a2.position
    assert (a1.event_type, a1.aggregate, a1.occurred_at) == ("OrderCreated", "order", 1000.0)
    assert a1.traceparent == "00-ab-cd-01"
    assert len({a1.event_id, b1.event_id, a2.event_id}) == 3


async def test_what_is_not_committed_is_not_told(source: Database) -> None:
    outbox = Outbox(source)

    async def work(tx: Transaction) -> None:
        await outbox.append(tx, message("a", b"never"))
        raise LookupError

    with pytest.raises(LookupError):
        await source.transaction(work)
    (event,) = await append(outbox, message("a", b"truly"))
    assert await told(outbox) == [event]
    assert event.sequence == 1


async def test_concurrent_writers_leave_no_gap_in_a_sequence(
    source: Database, source_url: str
) -> None:
    async with connect(source_url) as other:
        outboxes_ = Outbox(source), Outbox(other)
        await asyncio.gather(*(append(outboxes_[n % 2], message(f"o-{n % 3}")) for n in range(90)))
    events = await told(outboxes_[0])
    for aggregate_id in ("o-0", "o-1", "o-2"):
        numbers = [event.sequence for event in events if event.aggregate_id == aggregate_id]
        assert numbers == list(range(1, 31))


async def test_only_the_events_asked_for_are_told(source: Database) -> None:
    outbox = Outbox(source)
    order, payment = await append(outbox, message("a"), message("p", aggregate="payment"))
    assert await told(outbox, 0, "payment") == [payment]
    assert await told(outbox, 0, "order", "payment") == [order, payment]
    assert await told(outbox, order.position) == [payment]
    assert await told(outbox, payment.position) == []


async def test_rows_are_kept_until_every_follower_is_past_them(source: Database) -> None:
    clock = Clock(1000.0)
    outbox = Outbox(source, clock=clock)
    events = await append(outbox, *(message("a") for _ in range(6)))

    async def follow(consumer: str, index: int) -> None:
        position = events[index].position
        await source.transaction(lambda tx: outbox.seen(tx, consumer, position))

    await source.transaction(outbox.purge)
    assert await told(outbox) == events
    await follow("fast", 4)
    await follow("slow", 1)
    await source.transaction(outbox.purge)
    assert await told(outbox) == events[2:]
    await follow("slow", 5)
    await source.transaction(outbox.purge)
    assert await told(outbox) == events[5:], "fast is past 4 only; and the last one always stays"
    await follow("fast", 5)
    await source.transaction(outbox.purge)
    assert await source.read(outbox.newest) == events[5].position


async def test_a_follower_that_stays_away_holds_nothing_back_for_ever(
    source: Database,
) -> None:
    clock = Clock(1000.0)
    outbox = Outbox(source, clock=clock)
    old = await append(outbox, message("a"), message("a"))
    await source.transaction(lambda tx: outbox.seen(tx, "gone", 0))
    clock.advance(8 * DAY)
    (new,) = await append(outbox, message("a"))  # appending purges, once a minute
    assert await told(outbox) == [new]
    assert new.sequence == len(old) + 1, "purged events still count"


def test_an_inbox_remembers_longer_than_an_outbox_can_repeat() -> None:
    assert inboxes.RETENTION_SECONDS > outboxes.RETENTION_SECONDS


async def test_who_is_past_a_position_has_missed_none_before_it(
    source: Database, source_url: str
) -> None:
    """Writers of two processes end in any order; a reader looks all the time, and only onwards."""
    seen: list[Event] = []
    outbox = Outbox(source)

    async def write(writer: Outbox, number: int) -> None:
        async def work(tx: Transaction) -> None:
            await writer.append(tx, message(f"o-{number % 5}"))
            for _ in range(number % 4):  # some commit late
                await tx.fetch("select count(*) as n from outbox_sequence where sequence < 0")

        await writer.database.transaction(work)

    async def look() -> None:
        seen.extend(await told(outbox, seen[-1].position if seen else 0))

    async with connect(source_url) as other, asyncio.timeout(30):
        writers = (outbox, Outbox(other))
        writing = asyncio.gather(*(write(writers[n % 2], n) for n in range(120)))
        while not writing.done():
            await look()
        await writing
        while len(seen) < 120 and await told(outbox, seen[-1].position):
            await look()

    assert len({event.event_id for event in seen}) == 120
    for aggregate_id in {event.aggregate_id for event in seen}:
        numbers = [event.sequence for event in seen if event.aggregate_id == aggregate_id]
        assert numbers == list(range(1, 25))
