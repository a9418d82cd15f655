"""
A crew: some connections that do works in the order they were submitted, each one at a time.

    submit(job) --> at most `bound` wait --> whichever session is free --> the caller's future

What a caller gives up before it began is skipped; what began runs to its end, whoever waits for it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from mesh.store.database import StoreError
from mesh.store.postgres.session import Session
from mesh.store.postgres.work import refuse_inside_work
from mesh.store.worker import Job


class Crew:
    """Owns its sessions from start() to stop()."""

    def __init__(self, name: str, sessions: list[Session], bound: int) -> None:
        self._name = name
        self._sessions = sessions
        self._room = asyncio.Semaphore(bound)
        self._queue: asyncio.Queue[Job | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopping = False

    async def start(self) -> None:
        """Connect once, so that what is wrong is said now; the others connect when needed."""
        await self._sessions[0].open()
        self._tasks = [asyncio.create_task(self._work(session)) for session in self._sessions]

    async def submit(self, work: Any) -> Any:
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

    async def _work(self, session: Session) -> None:
        try:
            while job := await self._queue.get():
                if job.future.cancelled():
                    continue
                try:
                    job.result = await session.do(job)
                except asyncio.CancelledError:
                    job.error = StoreError(self._name, "was stopped meanwhile")
                    raise
                except BaseException as error:  # noqa: BLE001 - raised where the work was awaited
                    job.error = error
                finally:
                    job.settle()
        finally:
            await session.close()
