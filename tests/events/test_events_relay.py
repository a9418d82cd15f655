"""The relay: one owner, in order, at least once; past a slow broker, up to what it refuses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NoReturn

import pytest

from mesh.events import Event, Message, Outbox
from mesh.events import relay as relays
from mesh.events.bus import BusError, Take, Unheard
from mesh.events.relay import Relay
from mesh.store import Database
from mesh.testing import Clock
from tests.events.conftest import appended
from tests.events.ways import background

SECONDS = 30.0


class Log:
    """A bus of one's own making: what was published, and what `before` has to say to each batch."""

    def __init__(self, before: Callable[[Sequence[Event]], Awaitable[None]] | None = None) -> None:
        self.batches: list[list[Event]] = []
        self._before = before

    async def __aenter__(self) -> Log:
        return self

    async def __aexit__(self, *reason: object) -> None:
        """Nothing is open."""

    async def declare(self, source: str, group: str, topics: Sequence[str]) -> None:
        """There are no groups."""

    async def publish(self, source: str, events: Sequence[Event]) -> None:
        if self._before is not None:
            await self._before(events)
        self.batches.append(list(events))

    async def consume(self, source: str, group: str, topics: Sequence[str], take: Take) -> NoReturn:
        raise NotImplementedError

    async def has(self, count: int) -> list[int]:
        """The positions that were published, once there are so many different ones."""
        async with asyncio.timeout(SECONDS):
            while len({event.position for batch in self.batches for event in batch}) < count:
                await asyncio.sleep(0.01)
        return [event.position for batch in self.batches for event in batch]


@pytest.fixture
def outbox(source: Database) -> Outbox:
    """The outbox that is told of; each sort of database in turn."""
    return Outbox(source)


async def append(outbox: Outbox, count: int, payload: bytes = b"x") -> list[int]:
    messages = [Message("Made", "order", f"o-{n % 3}", payload) for n in range(count)]
    told = await outbox.database.transaction(lambda tx: appended(tx, outbox, *messages))
    return [event.position for event in told]


def relaying(outbox: Outbox, bus: Log, **options: Any):
    return background(Relay(outbox, bus, source="shop", **options).run())


async def test_a_relay_goes_on_where_the_one_before_it_stopped(outbox: Outbox) -> None:
    bus = Log()
    positions = await append(outbox, 150)
    async with relaying(outbox, bus):
        assert await bus.has(150) == positions
    positions += await append(outbox, 5)
    async with relaying(outbox, bus):
        assert await bus.has(155) == positions


async def test_one_of_many_relays_at_a_time(outbox: Outbox) -> None:
    bus = Log()
    async with relaying(outbox, bus), relaying(outbox, bus), relaying(outbox, bus):
        positions = []
        for _ in range(10):
            positions += await append(outbox, 7)
            await bus.has(len(positions))
    assert [event.position for batch in bus.batches for event in batch] == positions


async def test_a_relay_that_slept_through_its_lease_publishes_again_and_moves_nothing(
    outbox: Outbox,
) -> None:
    """The first is stopped inside publish; its lease ends; the second tells everything."""
    asleep, wake = asyncio.Event(), asyncio.Event()

    async def sleep(events: Sequence[Event]) -> None:
        asleep.set()
        await wake.wait()

    first, second = Log(sleep), Log()
    positions = await append(outbox, 3)
    async with relaying(outbox, first):
        await asleep.wait()
        # By the second one's clock the first one's lease ended long ago.
        async with relaying(outbox, second, clock=Clock(4e9)):
            assert await second.has(3) == positions
            more = await append(outbox, 2)
            wake.set()
            assert await second.has(5) == positions + more
    assert [event.position for batch in first.batches for event in batch] in ([], positions)


async def test_a_slow_broker_is_told_of_small_batches_and_progress_is_made(
    outbox: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "PUBLISH_SECONDS", 0.25)

    async def slow(events: Sequence[Event]) -> None:
        await asyncio.sleep(0.02 * len(events))  # 100 events would take 2 s

    bus = Log(slow)
    positions = await append(outbox, 40)
    async with relaying(outbox, bus):
        assert await bus.has(40) == positions


async def test_what_stands_before_an_event_that_is_refused_goes_out(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    positions = await append(outbox, 20)

    async def refuse(events: Sequence[Event]) -> None:
        if positions[13] in {event.position for event in events}:
            raise BusError("test", "too odd")

    bus = Log(refuse)
    async with relaying(outbox, bus):
        assert await bus.has(13) == positions[:13]
    assert [r.message for r in caplog.records if "too odd" in r.message] == [
        "events of shop are held up: test: too odd"
    ], "said once, not every time"


async def test_who_is_not_heard_waits_until_somebody_listens(
    outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    heard = asyncio.Event()

    async def nobody(events: Sequence[Event]) -> None:
        if not heard.is_set():
            raise Unheard("test", "shop")

    bus = Log(nobody)
    positions = await append(outbox, 3)
    async with relaying(outbox, bus):
        await asyncio.sleep(0.2)
        heard.set()
        assert await bus.has(3) == positions
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


async def test_a_payload_that_no_bus_would_take_is_refused_where_it_is_made(
    outbox: Outbox,
) -> None:
    with pytest.raises(ValueError, match="131073 bytes are more than 131072"):
        await append(outbox, 1, b"x" * (128 * 1024 + 1))
