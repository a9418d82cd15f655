"""
A crew: tasks that do an event loop's jobs in the order in which they were submitted.

    submit(work) --> at most `bound` wait --> whichever hand is free --> the caller's future

What a caller gives up before it began is skipped; what began runs to its end, whoever waits for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from mesh.store.database import StoreError
from mesh.store.postgres.work import refuse_inside_work
from mesh.store.worker import Job


class Hand(Protocol):
    """One of a crew; owns a connection."""

    async def open(self) -> None:
        """Connect; raises what is wrong with the address."""

    async def do(self, jobs: Iterator[Job]) -> None:
        """Do jobs while there are any, or as many as is fair, giving each a result or an error."""

    async def close(self) -> None: ...


class Crew:
    """Owns its hands from start() to stop()."""

    def __init__(self, name: str, hands: Sequence[Hand], bound: int) -> None:
        self._name = name
        self._hands = hands
        self._room = asyncio.Semaphore(bound)
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Connect once, so that what is wrong is said now; the others connect when needed."""
        await self._hands[0].open()
        self._tasks = [asyncio.create_task(self._work(hand)) for hand in self._hands]

    async def submit(self, work: Callable[..., Any]) -> Any:
        """Do `work`; waits for room first, so memory is bounded."""
        refuse_inside_work(self._name)
        async with self._room:
            if self._stopping:
                raise StoreError(self._name, "is closed")
            job = Job(work, asyncio.get_running_loop().create_future())
            self._queue.put_nowait(job)
            return await job.future

    async def stop(self) -> None:
        """Finish every job that was submitted, close the connections."""
        if not self._stopping:
            self._stopping = True
            for _ in self._tasks:
                self._queue.put_nowait(None)
        await asyncio.gather(*self._tasks)

    async def _work(self, hand: Hand) -> None:
        try:
            while first := await self._queue.get():
                taken = [first]
                try:
                    await hand.do(self._jobs(first, taken))
                except BaseException as error:
                    for job in taken:
                        job.error = job.error or error
                    if not isinstance(error, Exception):
                        raise
                finally:
                    for job in taken:
                        job.settle()
        finally:
            await hand.close()

    def _jobs(self, first: Job, taken: list[Job]) -> Iterator[Job]:
        """`first` and what else has been submitted, while the hand keeps asking."""
        if not first.future.cancelled():
            yield first
        while not self._queue.empty():
            job = self._queue.get_nowait()
            if job is None:
                self._queue.put_nowait(None)  # for _work, which it tells to end
                return
            taken.append(job)
            if not job.future.cancelled():
                yield job
