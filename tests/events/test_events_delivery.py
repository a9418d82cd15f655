"""
What every way from an outbox to an inbox promises, each on the real thing.

The feed over gRPC, NATS JetStream, RabbitMQ, Kafka (librdkafka's mock cluster; with --all a broker
of Apache's too) and SQS (moto's server), between two databases of SQLite and two of PostgreSQL.  A
broker that keeps things in files is killed with -9; one that is in memory has its connections cut
and refused instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from mesh.events import Event, Inbox, Message, Outbox
from mesh.events.held import Held
from mesh.events.url import connect as connect_bus
from mesh.store import Database, StoreBusy, Transaction, connect
from mesh.store.migrate import COUNTED
from scripts.stage.preflight import free_port
from tests.events.brokers import BROKERS, PATIENT, Broker, Running
from tests.events.conftest import appended
from tests.events.ways import background, process, take, tell, writing
from tests.store.postgresql import new_url

SECONDS = 60.0
EFFECT = (
    f"create table effect (place {COUNTED}, event_id text not null unique,"
    " aggregate_id text not null, sequence bigint not null, member text not null)"
)
_NUMBERS = count(1)


@dataclass
class Way:
    """A way for one test: names of its own on a broker that tests share, or on a feed's port."""

    url: str
    source: str
    topic: str
    broker: Broker | None

    async def declare(self, *consumers: str) -> None:
        """Have the groups be: brokers that keep queues keep nothing for who comes later."""
        if self.broker is not None:
            async with connect_bus(self.url) as bus:
                for consumer in consumers:
                    await bus.declare(self.source, consumer, [self.topic])

    def tell(self, outbox: Outbox):
        return background(tell(self.url, outbox, self.source))

    def take(self, database: Database, member: str = "one", consumer: str = "desk", **options):
        handler = options.pop("handler", writing(member))
        return background(
            take(self.url, database, self.source, self.topic, consumer, handler, **options)
        )

    async def append(self, outbox: Outbox, *aggregate_ids: str) -> list[Event]:
        messages = [Message("Made", self.topic, each, each.encode()) for each in aggregate_ids]
        return await outbox.database.transaction(lambda tx: appended(tx, outbox, *messages))


@pytest.fixture(params=["feed", *BROKERS])
async def way(request: pytest.FixtureRequest, brokers: Running) -> Way:
    number = next(_NUMBERS)
    source, topic = f"shop-{number}", f"order-{number}"
    if request.param == "feed":
        return Way(f"feed://127.0.0.1:{free_port()}", source, topic, None)
    broker = await brokers.get(request.param)
    await broker.prepare(topic, f"{topic}.desk.{source}.dead")
    return Way(broker.url, source, topic, broker)


@pytest.fixture
def shop_url(sort: str, tmp_path: Path) -> str:
    return new_url(sort, tmp_path / "shop.db")


@pytest.fixture
async def outbox(shop_url: str) -> AsyncIterator[Outbox]:
    async with connect(shop_url) as database:
        yield Outbox(database)


@pytest.fixture
def desk_url(sort: str, tmp_path: Path) -> str:
    return new_url(sort, tmp_path / "desk.db")


@pytest.fixture
async def desk(desk_url: str) -> AsyncIterator[Database]:
    async with connect(desk_url) as database:
        await database.migrate("effects", [EFFECT])
        yield database


async def effects(database: Database, least: int) -> list[tuple[str, str, int, str]]:
    """All effects in their order, once there are so many."""
    async with asyncio.timeout(SECONDS):
        async for _ in database.changes():
            rows = await database.read(lambda tx: tx.fetch("select * from effect order by place"))
            if len(rows) >= least:
                return [tuple(row)[1:] for row in rows]
    raise AssertionError("the database was closed")


def in_order(found: Sequence[tuple[str, str, int, str]], *sent: Sequence[Event]) -> bool:
    """One effect of each event, and those of an aggregate in the order of their numbers."""
    told = [event for batch in sent for event in batch]
    assert sorted(row[0] for row in found) == sorted(event.event_id for event in told)
    for name in {event.aggregate_id for event in told}:
        numbers = [sequence for _, aggregate_id, sequence, _ in found if aggregate_id == name]
        assert numbers == list(range(1, len(numbers) + 1)), name
    return True


def many(aggregates: int, events: int) -> list[str]:
    return [f"o-{number % aggregates}" for number in range(events)]


class TestDelivery:
    """Held by every way."""

    async def test_every_event_has_one_effect_in_order_and_all_its_fields(
        self, way: Way, outbox: Outbox, desk: Database
    ) -> None:
        heard: list[Event] = []

        async def write(tx: Transaction, event: Event) -> None:
            heard.append(event)
            await writing("one")(tx, event)

        before = await way.append(outbox, *many(7, 50))  # told of before anybody listens
        async with way.tell(outbox), way.take(desk, handler=write):
            after = await way.append(outbox, *many(7, 50))
            assert in_order(await effects(desk, 100), before, after)
        assert {event.event_id: event for event in heard} == {
            event.event_id: event for event in before + after
        }

    async def test_events_come_until_the_database_takes_them(
        self, way: Way, outbox: Outbox, desk: Database
    ) -> None:
        busy = 3

        async def write(tx: Transaction, event: Event) -> None:
            nonlocal busy
            if event.aggregate_id == "o-3" and busy:
                busy -= 1
                raise StoreBusy("desk.db", "others are in the way")
            await writing("one")(tx, event)

        async with way.tell(outbox), way.take(desk, handler=write):
            sent = await way.append(outbox, *many(7, 50))
            assert in_order(await effects(desk, 50), sent)
        assert busy == 0

    @pytest.mark.parametrize("way", ["feed", *PATIENT], indirect=True)
    async def test_members_share_the_work_and_groups_have_all_of_it_each(
        self, way: Way, outbox: Outbox, desk: Database, desk_url: str, sort: str, tmp_path: Path
    ) -> None:
        await way.declare("desk", "audit")
        async with AsyncExitStack() as stack:
            twin = await stack.enter_async_context(connect(desk_url))
            audit = await stack.enter_async_context(connect(new_url(sort, tmp_path / "audit.db")))
            await audit.migrate("effects", [EFFECT])
            for member in (
                way.take(desk, "one"),
                way.take(twin, "two"),
                way.take(audit, "auditor", "audit"),
                way.tell(outbox),
            ):
                await stack.enter_async_context(member)
            sent: list[Event] = []
            members: set[str] = set()
            # A feed has both members try each event: which is first is chance.
            async with asyncio.timeout(SECONDS):
                while not sent or (way.broker and members != {"one", "two"}):
                    sent += await way.append(outbox, *many(40, 120))
                    found = await effects(desk, len(sent))
                    members = {member for *_, member in found}
            assert in_order(found, sent)
            assert in_order(await effects(audit, len(sent)), sent)

    async def test_a_poison_event_is_dead_with_its_cause_and_only_its_aggregate_waits(
        self, way: Way, outbox: Outbox, desk: Database
    ) -> None:
        poison = {"o-1"}

        async def write(tx: Transaction, event: Event) -> None:
            if event.aggregate_id in poison:
                raise ValueError(f"{event.aggregate_id} is poison")
            await writing("one")(tx, event)

        # An operator's hands: the table of the dead is in the consumer's database.
        inbox = Inbox(desk, consumer="desk", source=way.source, handler=write)
        async with way.tell(outbox), way.take(desk, handler=write, attempts=2):
            sent = await way.append(outbox, *many(3, 30))
            others = [event for event in sent if event.aggregate_id != "o-1"]
            assert in_order(await effects(desk, 20), others)

            first = next(event for event in sent if event.aggregate_id == "o-1")
            assert await dead(desk, inbox) == [Held(first, 2, "ValueError: o-1 is poison")]

            poison.clear()
            assert await desk.transaction(lambda tx: inbox.redrive(tx, first.position))
            assert in_order(await effects(desk, 30), sent)
        assert await desk.read(inbox.dead) == []

    @pytest.mark.parametrize("way", ["feed", *PATIENT], indirect=True)
    async def test_who_tells_and_who_takes_are_killed_and_nothing_is_lost_or_done_twice(
        self, way: Way, outbox: Outbox, desk: Database, shop_url: str, desk_url: str
    ) -> None:
        sent = await way.append(outbox, *many(9, 400))
        taking = ("take", way.url, desk_url, way.source, way.topic, "desk")
        async with process("tell", way.url, shop_url, way.source) as teller:
            async with process(*taking) as taker:
                await effects(desk, 50)
                taker.kill()
            async with process(*taking):
                sent += await way.append(outbox, *many(9, 100))
                teller.kill()
                await teller.wait()
                async with process("tell", way.url, shop_url, way.source):
                    assert in_order(await effects(desk, 500), sent)

    @pytest.mark.parametrize("way", PATIENT, indirect=True)
    async def test_a_broker_that_is_killed_and_comes_back_loses_nothing(
        self, way: Way, outbox: Outbox, desk: Database
    ) -> None:
        assert way.broker is not None
        async with way.tell(outbox), way.take(desk):
            sent = await way.append(outbox, *many(9, 200))
            await effects(desk, 20)
            await way.broker.kill()
            sent += await way.append(outbox, *many(9, 50))
            await asyncio.sleep(0.3)
            await way.broker.start()
            sent += await way.append(outbox, *many(9, 50))
            assert in_order(await effects(desk, 300), sent)


async def dead(database: Database, inbox: Inbox) -> list[Held]:
    async with asyncio.timeout(SECONDS):
        async for _ in database.changes():
            if found := await database.read(inbox.dead):
                return found
    raise AssertionError("the database was closed")
