"""Lanes keep an aggregate's order whatever fails; holding keeps events until they are taken."""

import asyncio
import random
from collections.abc import Sequence

import pytest

from mesh.events import Event
from mesh.events.bus import BusError
from mesh.events.lanes import in_lanes, lanes
from mesh.events.taking import hold
from mesh.policy.backoff import Backoff

AT_ONCE = Backoff(base=0.001, cap=0.001)


def event(number: int, aggregate_id: str, aggregate: str = "order") -> Event:
    return Event(number, f"e-{number}", "Made", aggregate, aggregate_id, number, 1.5, "", b"")


A1, B1, A2, C1, B2 = (event(n, name) for n, name in enumerate("abacb"))


def test_each_aggregate_is_a_lane() -> None:
    other = event(9, "a", "payment")
    assert lanes([A1, B1, A2, other, C1, B2]) == [[A1, A2], [B1, B2], [other], [C1]]


async def test_what_failed_is_not_overtaken_and_nothing_is_begun_after_it() -> None:
    sent: list[Event] = []
    begun, failed = asyncio.Event(), asyncio.Event()

    async def send(each: Event) -> None:
        if each is A1:
            await begun.wait()
            failed.set()
            raise BusError("test", "no")
        if each is B1:
            begun.set()
            await failed.wait()
        sent.append(each)

    with pytest.raises(BusError, match="no"):
        await in_lanes([A1, B1, A2, C1, B2], send)

    assert B1 in sent, "what was on its way is waited for"
    assert A2 not in sent
    assert B2 not in sent


async def test_events_are_held_until_they_are_taken_less_what_is_no_longer_ours() -> None:
    ours = [A1, B1]
    tried: list[list[Event]] = []

    async def take(events: Sequence[Event]) -> None:
        tried.append(list(events))
        if len(tried) < 3:
            ours[:] = ours[:1] if len(tried) == 2 else ours
            raise BusError("test", "busy")

    await hold(take, lambda: ours, what="test", rng=random.Random(0), backoff=AT_ONCE)

    assert tried == [[A1, B1], [A1, B1], [A1]]


async def test_what_is_no_longer_ours_at_all_is_not_tried() -> None:
    async def take(events: Sequence[Event]) -> None:
        raise AssertionError("nothing to take")

    await hold(take, list, what="test", rng=random.Random(0))
