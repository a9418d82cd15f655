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
        # Who reads of the client: whoever sent may not have heard yet that nobody wants more.
        self._reader = asyncio.Lock()

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
        async with self._reader:
            self._arriving.resume()
            try:
                piece = await self._arriving.piece()
            except Problem:
                self.read.set()
                raise
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
        with suppress(TimeoutError):
            async with asyncio.timeout(2 * LINGER_SECONDS), self._reader:
                await self._arriving.linger()
        self.read.set()
        return True
