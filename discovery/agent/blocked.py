"""
A request that waits: looked at again after every touch of its topics, and answered once.

    begin -> (touched -> look)* -> answered     by the look that finds something, or by the last
                                -> cancel       whoever asked went away: nobody is answered

It is neither a task nor a future: between a write and its answer lies one turn of the loop, in
which all writes of one turn are one look.  What it holds (its place among the waiters, a timer) is
given back before it answers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from discovery.agent.catalog import Catalog
from discovery.agent.wire import Response

# A response, or None to wait on; told True when there is no more time to wait.
Look = Callable[[bool], Response | None]
Answered = Callable[[Response | Exception], None]


class Blocked:
    """Waits `wait` seconds, and up to a sixteenth longer so that not all return at once."""

    __slots__ = ("_answered", "_catalog", "_look", "_timer", "_topics", "_turn", "_wait")

    def __init__(self, catalog: Catalog, topics: Sequence[str], look: Look, wait: float) -> None:
        self._catalog = catalog
        self._topics = topics
        self._look = look
        self._wait = wait
        self._answered: Answered | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._turn: asyncio.Handle | None = None

    def begin(self, answered: Answered) -> None:
        """From now on; `answered` is called once, by the loop, unless `cancel` comes first."""
        self._answered = answered
        waiters = self._catalog.waiters
        for topic in self._topics:
            waiters[topic].add(self._touched)
        seconds = self._wait + random.uniform(0, self._wait / 16)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._look_again, True)

    def cancel(self) -> None:
        """Wait no more; may be called again."""
        self._answered = None
        for handle in (self._timer, self._turn):
            if handle is not None:
                handle.cancel()
        waiters = self._catalog.waiters
        for topic in self._topics:
            if topic in waiters:
                waiters[topic].discard(self._touched)
                if not waiters[topic]:
                    del waiters[topic]

    def _touched(self) -> None:
        if self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._look_again, False)

    def _look_again(self, last: bool) -> None:
        self._turn = None
        found: Response | Exception | None
        try:
            found = self._look(last)
        except Exception as error:  # noqa: BLE001 - told to whoever answers, as any other answer
            found = error
        answered = self._answered
        if found is not None and answered is not None:
            self.cancel()
            answered(found)
