"""
A request's body on its way in: piece by piece, under its limits, and no longer than it may take.

    receive --> piece, piece, ... None         413 when it is too large, 408 too slow, 400 torn

A body that is too large is read on for a little before the client is told.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from gateway.status import Problem, problem
from mesh.errors import Code

# How much of a body that is too large is read past the limit, and for how long.
LINGER_BYTES = 32 * 1024 * 1024
LINGER_SECONDS = 1.0

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Arriving:
    """
    The body that `receive` brings.

    With a `limit` in bytes, all of it has `seconds`; without one it is a stream, and each piece
    has them.  `announced` is what Content-Length says; `lingers` whether a client that is refused
    is read on for a little.
    """

    __slots__ = (
        "_announced",
        "_limit",
        "_lingers",
        "_receive",
        "_seconds",
        "_size",
        "_until",
        "more",
    )

    def __init__(
        self,
        receive: Receive,
        limit: int | None,
        announced: int | None,
        seconds: float,
        *,
        lingers: bool,
    ) -> None:
        self._receive = receive
        self._limit = limit
        self._announced = announced
        self._seconds = seconds
        self._lingers = lingers
        self._size = 0
        self._until = asyncio.get_running_loop().time() + seconds
        # Whether a piece may still come.
        self.more = True

    async def piece(self) -> bytes | None:
        """The next piece, which may be empty; None when there is none."""
        if not self.more:
            return None
        limit, announced = self._limit, self._announced
        if limit is not None and announced is not None and announced > limit:
            raise await self._refused(limit)
        try:
            async with asyncio.timeout_at(self._until):
                event = await self._receive()
        except TimeoutError:
            raise problem(
                Code.DEADLINE_EXCEEDED,
                f"the body did not arrive within {self._seconds:g} s",
                reason="BODY_TOO_SLOW",
                http=408,
                headers=[("connection", "close")],
            ) from None
        if event["type"] == "http.disconnect":  # it left, or its chunks were no chunks
            raise problem(
                Code.INVALID_ARGUMENT,
                "the body ended before its end",
                reason="BODY_INCOMPLETE",
                headers=[("connection", "close")],
            )
        piece: bytes = event.get("body", b"")
        self._size += len(piece)
        # Where all that was announced is there, the server still says that more may come.
        self.more = event.get("more_body", False) and self._size != announced
        if limit is None:
            self._until = asyncio.get_running_loop().time() + self._seconds
        elif self._size > limit:
            raise await self._refused(limit)
        return piece

    def pause(self) -> None:
        """The client's time stands still: what it sends waits for somebody else."""
        self._until -= asyncio.get_running_loop().time()

    def resume(self) -> None:
        """It goes on."""
        self._until += asyncio.get_running_loop().time()

    async def _refused(self, limit: int) -> Problem:
        """What a body over the limit is, once a little more of it was read."""
        await self.linger()
        return too_large(limit)

    async def linger(self) -> None:
        """
        Read a little more, and throw it away, for a client that is answered before its end.

        Who still sends does not read, and closing a connection with unread bytes takes the answer
        away.  Who waits for 100-continue reads.
        """
        left, more = LINGER_BYTES if self._lingers else 0, True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER_SECONDS):
                while more and left > 0:
                    event = await self._receive()
                    left -= len(event.get("body", b""))
                    more = event.get("more_body", False)


def too_large(limit: int) -> Problem:
    return problem(
        Code.INVALID_ARGUMENT,
        f"the body is larger than {limit} bytes",
        reason="BODY_TOO_LARGE",
        http=413,
        headers=[("connection", "close")],
    )
