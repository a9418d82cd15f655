"""
Which points there are: every write-like call of every service that an order passes through.

    first     killed at each call from its start to the end of the story
    again     killed in the middle of the story, and then at each call of its next life
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from scripts.crashing.house import SERVICES
from scripts.crashing.nursery import Nursery
from scripts.crashing.point import Point, measure
from scripts.crashing.tale import CARDS
from scripts.crashing.victim import Kill

STORIES = tuple(CARDS)
# The call by which a database is written: where the victim dies first, before it dies again.
FIRST = "pwrite64"


async def points(
    nursery: Nursery, stories: Sequence[str] = STORIES, victims: Sequence[str] = SERVICES
) -> AsyncIterator[Point]:
    """All of them; each story and victim is gone through unharmed first, to count its calls."""
    for story in stories:
        for victim in victims:
            calls = await measure(nursery, Point(story, victim, ()))
            for kill in _each(calls):
                yield Point(story, victim, (kill,))
            # Behind its start, where the order is.
            first = Kill(FIRST, calls[FIRST] * 3 // 4)
            again = await measure(nursery, Point(story, victim, (first,)))
            for kill in _each(again):
                yield Point(story, victim, (first, kill))


def sample(everything: Sequence[Point], size: int) -> list[Point]:
    """So many of them, spread evenly."""
    if size >= len(everything):
        return list(everything)
    return [everything[number * len(everything) // size] for number in range(size)]


def _each(calls: dict[str, int]) -> list[Kill]:
    return [Kill(call, nth) for call, count in calls.items() for nth in range(1, count + 1)]
