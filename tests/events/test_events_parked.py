"""What a broker will never take waits for an operator, and nothing waits for it but its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mesh.events import Event, Message, Outbox
from mesh.events.bus import EventRefused
from mesh.events.dead import DeadLetter, DeadLetters
from mesh.store import Database, Transaction
from mesh.testing import Clock
from tests.events.test_events_relay import Log, relaying

SECONDS = 30.0


class Broker(Log):
    """A bus that will not have payloads longer than `most`."""

    def __init__(self, most: int = 10, *, looks_first: bool = False) -> None:
        super().__init__()
        self.most = most
        # Whether it refuses before anything is sent, or as far as it came.
        self._looks_first = looks_first
        self.refusals = 0

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        """One after another, as far as the first that is too large."""
        for event in events if self._looks_first else ():
            self._look_at(event)
        for event in events:
            self._look_at(event)
            self.batches.append([event])

    def _look_at(self, event: Event) -> None:
        if len(event.payload) > self.most:
            self.refusals += 1
            raise EventRefused("test", event, f"larger than {self.most}")

    def lines(self) -> dict[str, list[int]]:
        """By aggregate: the numbers of its events in the order of their first publication."""
        found: dict[str, list[int]] = {}
        for event in dict.fromkeys(each for batch in self.batches for each in batch):
            found.setdefault(event.aggregate_id, []).append(event.sequence)
        return found

    async def have(self, lines: dict[str, list[int]]) -> None:
        async with asyncio.timeout(SECONDS):
            while self.lines() != lines:
                await asyncio.sleep(0.01)


class Sender:
    """An outbox, and what an operator does with what its relay parked."""

    def __init__(self, database: Database) -> None:
        self.outbox = Outbox(database)
        self.letters = DeadLetters(database)

    async def tell(self, *told: tuple[str, int]) -> None:
        """An event for each aggregate and size."""

        async def work(tx: Transaction) -> None:
            for aggregate_id, size in told:
                message = Message("Made", "order", aggregate_id, b"x" * size)
                await self.outbox.append(tx, message)

        await self.outbox.database.transaction(work)

    async def dead(self, count: int) -> list[DeadLetter]:
        """The dead letters, once there are so many."""
        async with asyncio.timeout(SECONDS):
            while True:
                found = await self.outbox.database.read(
                    lambda tx: self.letters.listed(tx, 1000, None)
                )
                if len(found) == count:
                    return found
                await asyncio.sleep(0.01)

    async def redrive(self, letter: DeadLetter) -> None:
        database = self.outbox.database
        assert await database.transaction(lambda tx: self.letters.redrive(tx, letter.name))

    async def drop(self, letter: DeadLetter) -> None:
        database = self.outbox.database
        assert await database.transaction(lambda tx: self.letters.drop(tx, letter.name))


@pytest.fixture
def sender(source: Database) -> Sender:
    return Sender(source)


async def test_it_is_parked_with_its_cause_and_only_its_own_aggregate_waits(
    sender: Sender, caplog: pytest.LogCaptureFixture
) -> None:
    bus = Broker()
    await sender.tell(("a", 1), ("b", 1), ("a", 99), ("b", 1), ("a", 1), ("c", 1))
    async with relaying(sender.outbox, bus):
        await bus.have({"a": [1], "b": [1, 2], "c": [1]})
        await sender.tell(("a", 1), ("b", 1))
        await bus.have({"a": [1], "b": [1, 2, 3], "c": [1]})
        (letter,) = await sender.dead(1)
        async with asyncio.timeout(SECONDS):
            while letter.waiting < 2:
                await asyncio.sleep(0.01)
                (letter,) = await sender.dead(1)

    assert (letter.name.consumer, letter.name.source) == ("relay:bus", "shop")
    assert (letter.held.event.aggregate_id, letter.held.event.sequence) == ("a", 2)
    assert (letter.held.attempts, letter.held.cause) == (1, "larger than 10")
    assert letter.held.event.payload == b"x" * 99
    assert letter.waiting == 2
    said = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert len(said) == 1
    assert f"event {letter.held.event.event_id} is refused: larger than 10" in said[0]


@pytest.mark.parametrize("looks_first", [False, True])
async def test_whatever_stood_beside_it_is_told_however_far_the_bus_came(
    sender: Sender, looks_first: bool
) -> None:
    bus = Broker(looks_first=looks_first)
    told = [("a", 1), ("b", 99), ("c", 1), ("a", 1), ("d", 98), ("e", 1), ("c", 97), ("a", 1)]
    await sender.tell(*told)
    async with relaying(sender.outbox, bus):
        await bus.have({"a": [1, 2, 3], "c": [1], "e": [1]})
        parked = await sender.dead(3)
    assert [letter.held.event.aggregate_id for letter in parked] == ["b", "d", "c"]


async def test_one_that_is_redriven_goes_out_and_what_waited_follows_in_its_order(
    sender: Sender,
) -> None:
    bus = Broker()
    await sender.tell(("a", 99), ("a", 1), ("b", 1))
    async with relaying(sender.outbox, bus):
        await bus.have({"b": [1]})
        (letter,) = await sender.dead(1)
        await sender.redrive(letter)  # the broker is as it was
        async with asyncio.timeout(SECONDS):
            while bus.refusals < 2:
                await asyncio.sleep(0.01)
        (letter,) = await sender.dead(1)
        assert letter.held.attempts == 1  # redriven, it had all its attempts back
        bus.most = 100
        await sender.tell(("a", 1))
        await sender.redrive(letter)
        await bus.have({"a": [1, 2, 3], "b": [1]})
        await sender.tell(("a", 1))
        await bus.have({"a": [1, 2, 3, 4], "b": [1]})
        assert await sender.dead(0) == []
    rows = await sender.outbox.database.read(lambda tx: tx.fetch("select * from inbox_held"))
    assert rows == []


async def test_one_that_is_dropped_is_never_told_of_and_what_waited_goes_on(
    sender: Sender,
) -> None:
    bus = Broker()
    await sender.tell(("a", 99), ("a", 1), ("a", 98), ("a", 1))
    async with relaying(sender.outbox, bus):
        (letter,) = await sender.dead(1)
        await sender.drop(letter)
        await bus.have({"a": [2]})
        (letter,) = await sender.dead(1)  # the next one that it will not have
        assert letter.held.event.sequence == 3
        await sender.drop(letter)
        await bus.have({"a": [2, 4]})


async def test_whoever_relays_next_knows_what_is_parked(sender: Sender) -> None:
    bus = Broker()
    await sender.tell(("a", 99))
    async with relaying(sender.outbox, bus):
        (letter,) = await sender.dead(1)
    await sender.tell(("a", 1), ("b", 1))
    async with relaying(sender.outbox, bus):
        await bus.have({"b": [1]})
        bus.most = 100
        await sender.redrive(letter)
        await bus.have({"a": [1, 2], "b": [1]})
    assert bus.refusals == 1


async def test_many_that_are_refused_cost_few_repetitions(sender: Sender) -> None:
    """Every third of 300 aggregates is refused; whatever stood beside them is told, once or so."""
    bus = Broker()
    await sender.tell(*((f"o-{n}", 99 if n % 3 == 0 else 1) for n in range(300)))
    async with relaying(sender.outbox, bus):
        await bus.have({f"o-{n}": [1] for n in range(300) if n % 3})
        await sender.dead(100)
    assert sum(map(len, bus.batches)) <= 200 * 2
    assert bus.refusals <= 100 * 2


async def test_a_relay_that_slept_through_its_lease_parks_nothing(sender: Sender) -> None:
    """It is refused an event that another relay, meanwhile, has had taken."""
    asleep, wake = asyncio.Event(), asyncio.Event()

    class Slow(Broker):
        async def publish(self, source: str, events: Sequence[Event]) -> None:
            asleep.set()
            await wake.wait()
            await super().publish(source, events)

    first, second = Slow(), Broker(most=1000)
    await sender.tell(("a", 99))
    async with relaying(sender.outbox, first):
        await asyncio.wait_for(asleep.wait(), SECONDS)
        async with relaying(sender.outbox, second, clock=Clock(4e9)):
            await second.have({"a": [1]})
            wake.set()
            async with asyncio.timeout(SECONDS):
                while not first.refusals:
                    await asyncio.sleep(0.01)
            await sender.tell(("a", 1))
            await second.have({"a": [1, 2]})
            assert await sender.dead(0) == []
