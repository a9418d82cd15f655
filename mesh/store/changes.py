"""Changes: an endless iterator that wakes after commits; commits between two items are one item."""

import asyncio


class Changes:
    """Answers its first item at once.  Needs no closing: a database only holds it weakly."""

    def __init__(self) -> None:
        self._news = asyncio.Event()
        self._news.set()
        self._ended = False

    def wake(self) -> None:
        self._news.set()

    def end(self) -> None:
        """The database is closed: there will be no further item."""
        self._ended = True
        self._news.set()

    def __aiter__(self) -> "Changes":
        return self

    async def __anext__(self) -> None:
        await self._news.wait()
        if self._ended:
            raise StopAsyncIteration
        self._news.clear()
