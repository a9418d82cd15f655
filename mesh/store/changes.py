"""Changes: an endless iterator that wakes after commits; commits between two items are one item."""

import asyncio
import weakref


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


class Audience:
    """Everybody who listens to the changes of one database."""

    def __init__(self) -> None:
        self._listeners: weakref.WeakSet[Changes] = weakref.WeakSet()

    def __bool__(self) -> bool:
        return bool(self._listeners)

    def join(self) -> Changes:
        changes = Changes()
        self._listeners.add(changes)
        return changes

    def wake(self) -> None:
        """Something was committed."""
        for changes in tuple(self._listeners):
            changes.wake()

    def end(self) -> None:
        """The database is closed."""
        for changes in tuple(self._listeners):
            changes.end()
