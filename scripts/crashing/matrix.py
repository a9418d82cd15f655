"""
Which points there are: every write-like call of every service that an order passes through.

    first     killed at each call from its start to the end of the story
    again     killed in the middle of the story, and then at each call of its next life
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial

from scripts.crashing.house import SERVICES
from scripts.crashing.nursery import Nursery
from scripts.crashing.point import Point, Unreached, measure
from scripts.crashing.tale import CARDS
from scripts.crashing.victim import Kill

STORIES = tuple(CARDS)
# The call by which a database is written, and where of all of them the victim dies first before it
# dies again: behind its start, where the order is.  A life may make fewer than were counted.
FIRST = "pwrite64"
SHARES = (0.75, 0.65, 0.55)
# For a few points: behind what a fresh database takes, and where it is opened again.
LATE = (0.85, 0.95)
RECOVERING = Kill(FIRST, 20)
# The calls of the life after a point's kills; raises Unreached.
Measured = Callable[[Point], Awaitable[dict[str, int]]]


async def points(
    nursery: Nursery, stories: Sequence[str] = STORIES, victims: Sequence[str] = SERVICES
) -> AsyncIterator[Point]:
    """All of them; each story and victim is gone through unharmed first, to count its calls."""
    measured = partial(measure, nursery)
    for story in stories:
        for victim in victims:
            calls = await measured(Point(story, victim, ()))
            for kill in _each(calls):
                yield Point(story, victim, (kill,))
            first, again = await second_life(measured, story, victim, calls[FIRST])
            for kill in _each(again):
                yield Point(story, victim, (first, kill))


async def few(nursery: Nursery, story: str) -> AsyncIterator[Point]:
    """Three for each victim, where its last transactions are and in the recovery from one."""
    for victim in SERVICES:
        calls = await measure(nursery, Point(story, victim, ()))
        late, later = (Kill(FIRST, int(calls[FIRST] * share)) for share in LATE)
        yield Point(story, victim, (later,))
        yield Point(story, victim, (late,))
        yield Point(story, victim, (late, RECOVERING))


def sample(everything: Sequence[Point], size: int) -> list[Point]:
    """So many of them, spread evenly."""
    if size >= len(everything):
        return list(everything)
    return [everything[number * len(everything) // size] for number in range(size)]


async def second_life(
    measured: Measured, story: str, victim: str, writes: int
) -> tuple[Kill, dict[str, int]]:
    """Where the victim dies first, and the calls of its next life."""
    for share in SHARES:
        first = Kill(FIRST, int(writes * share))
        try:
            return first, await measured(Point(story, victim, (first,)))
        except Unreached as why:
            unreached = why
    raise unreached


def _each(calls: dict[str, int]) -> list[Kill]:
    return [Kill(call, nth) for call, count in calls.items() for nth in range(1, count + 1)]
