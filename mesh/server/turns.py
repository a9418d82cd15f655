"""Turns: of the calls in this process that are about the same thing, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager


class NotYet(Exception):
    """One's turn did not come in time."""


class Turns:
    """Who is at it, by what it is about; nothing is kept of what nobody is about."""

    def __init__(self) -> None:
        self._places: dict[Hashable, tuple[asyncio.Lock, list[None]]] = {}

    def __len__(self) -> int:
        return len(self._places)

    @asynccontextmanager
    async def of(self, about: Hashable, seconds: float) -> AsyncIterator[bool]:
        """One's turn, and whether one waited; NotYet when it isn't there in so many seconds."""
        lock, present = self._places.setdefault(about, (asyncio.Lock(), []))
        present.append(None)
        try:
            waits = lock.locked()
            try:
                async with asyncio.timeout(max(0.0, seconds) if waits else None):
                    await lock.acquire()
            except TimeoutError:
                raise NotYet from None
            try:
                yield waits
            finally:
                lock.release()
        finally:
            present.pop()
            if not present:
                del self._places[about]
