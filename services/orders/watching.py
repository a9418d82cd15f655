"""
Who waits for which order, and one reader that tells them all.

    database.changes() --> which of the watched orders have another version? --> wake those who wait

One query per commit serves every watcher of the process, instead of one query per commit and
watcher.  A wake-up says "look again", so a needless one does no harm and none is ever missed:
register first, then read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from mesh.store import Database
from services.orders import store


class Watched:
    """
    One order that somebody waits for; `version` is the last one they have seen.

    With `only_end` they care for no version but the last, and are woken for no other.
    """

    def __init__(self, order_id: str, *, only_end: bool = False) -> None:
        self.order_id = order_id
        self.only_end = only_end
        self.version = 0
        self._changed = asyncio.Event()

    async def changed(self) -> None:
        """Wait until the order may have another version than `version`."""
        await self._changed.wait()
        self._changed.clear()

    def wake(self) -> None:
        self._changed.set()


class Watching:
    """The watched orders of one process."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._watched: dict[str, set[Watched]] = {}

    @contextmanager
    def of(self, order_id: str, *, only_end: bool = False) -> Iterator[Watched]:
        """Wait for changes of one order, or for its end, inside the `with`."""
        watched = Watched(order_id, only_end=only_end)
        self._watched.setdefault(order_id, set()).add(watched)
        try:
            yield watched
        finally:
            others = self._watched[order_id]
            others.discard(watched)
            if not others:
                del self._watched[order_id]

    async def follow(self) -> None:
        """Wake those who wait as the database changes; run it beside whatever serves them."""
        async for _ in self._database.changes():
            asked = list(self._watched)
            if not asked:
                continue
            versions = await self._database.read(partial(store.newest_of, order_ids=asked))
            for order_id, newest in versions.items():
                for watched in self._watched.get(order_id, ()):
                    if newest.version > watched.version and (
                        newest.is_final or not watched.only_end
                    ):
                        watched.wake()
