"""
A block that ends when the client leaves: nobody works on an answer that nobody reads.

    async with Watched(exchange, after=0.02):
        reply = await call                          # ClientGone, once the client has left

The client is looked for only `after` some seconds: most calls are over by then and pay for a timer
alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType


class ClientGone(Exception):
    """The client has closed its connection: nobody reads the answer."""


class CutShort(ClientGone):
    """The answer cannot be whole: the connection is closed in its middle, which shows that."""


class Watched:
    """`look` makes the task that ends when the client has left, or returns the one there is."""

    __slots__ = ("_after", "_gone", "_here", "_look", "_looking", "_timer")

    def __init__(self, look: Callable[[], asyncio.Task[None]], after: float) -> None:
        self._look = look
        self._after = after
        self._looking: asyncio.Task[None] | None = None
        self._gone = False

    async def __aenter__(self) -> None:
        self._here = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(self._after, self._start)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self._looking is not None:
            self._looking.remove_done_callback(self._left)
        cancelled = kind is not None and issubclass(kind, asyncio.CancelledError)
        if cancelled and self._gone and self._here is not None and not self._here.uncancel():
            raise ClientGone from None

    def _start(self) -> None:
        self._looking = self._look()
        self._looking.add_done_callback(self._left)

    def _left(self, look: asyncio.Task[None]) -> None:
        if self._here is not None and not look.cancelled():
            self._gone = True
            self._here.cancel()
