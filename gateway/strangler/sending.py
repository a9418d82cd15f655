"""
A body that is too long to be read first, on its way to an old service: as fast as both sides are.

    client --Arriving--> piece --> old service          one piece at a time, and no more in memory
      body_seconds, without         its timeout, for all that it does: taking pieces, answering
      what the service takes

So neither pays for the other: a client that sends slowly is told 408 and does not count as the
service's failure; a service that takes nothing is LEGACY_TIMEOUT and not the client's.  The body
may turn out too large, or end before its end: the service then never sees its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

from gateway.body import LINGER_SECONDS, Arriving
from gateway.status import Problem


class Sending:
    """The pieces that were read, and those that are still `arriving`."""

    def __init__(self, begun: Sequence[bytes], arriving: Arriving) -> None:
        # Set once nobody reads the client's body any more.
        self.read = asyncio.Event()
        # Why it could not be sent whole, where that is the client's doing.
        self.failure: Problem | None = None
        self._begun = list(begun)
        self._arriving = arriving
        arriving.pause()
        self._left = 0.0
        self._limit: asyncio.Timeout | None = None
        # Outlives who waits for it: a server takes the client of a cancelled receive for gone.
        self._reading: asyncio.Task[bytes | None] | None = None

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """TimeoutError when the old service has taken so long, not counting the client."""
        self._left = seconds
        try:
            async with asyncio.timeout(seconds) as self._limit:
                yield
        finally:
            self._limit = None

    async def pieces(self) -> AsyncIterator[bytes]:
        """What the old service is sent."""
        try:
            piece: bytes | None = b"".join(self._begun)
            self._begun.clear()
            while piece is not None:
                if piece:
                    yield piece
                piece = await self._next()
        except Problem as error:
            self.failure = error
            raise

    async def _next(self) -> bytes | None:
        """The client's next piece; meanwhile the old service's time stands still."""
        loop = asyncio.get_running_loop()
        if self._limit is not None and (until := self._limit.when()) is not None:
            self._left = until - loop.time()
            self._limit.reschedule(None)
        if self._reading is None:
            self._arriving.resume()
            self._reading = asyncio.ensure_future(self._arriving.piece())
            self._reading.add_done_callback(_seen)
        try:
            piece = await asyncio.shield(self._reading)
        except Problem:
            self.read.set()
            raise
        self._reading = None
        self._arriving.pause()
        if piece is None:
            self.read.set()
        if self._limit is not None:
            self._limit.reschedule(loop.time() + self._left)
        return piece

    async def rest(self) -> bool:
        """
        Whether the client had more to say than anybody wanted: then some of it is read on.

        Who is answered before its end still sends, and does not read; see gateway.body.
        """
        if self.read.is_set():
            return False
        with suppress(TimeoutError, Problem):
            async with asyncio.timeout(LINGER_SECONDS):
                if self._reading is not None:
                    await asyncio.shield(self._reading)
                    self._reading = None
                await self._arriving.linger()
        if self._reading is not None:
            self._reading.cancel()
        self.read.set()
        return True


def _seen(reading: asyncio.Task[bytes | None]) -> None:
    """Nobody may wait for it any more; that it failed is no news then."""
    if not reading.cancelled():
        reading.exception()
