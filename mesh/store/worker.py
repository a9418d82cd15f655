"""
Worker: one thread that does an event loop's jobs in order, many at a time.

    loop:    submit(work) --+                    +--> future resolved
                            |                    |    (one wake-up of the loop for a whole batch)
    thread:                 +--> engine.batch ---+

What runs on the thread is the engine's; when the loop learns of it, and how much may wait, is the
worker's.  A job whose caller gave up before it began is skipped; one that began runs to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import Context, copy_context
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Protocol

from mesh.store.database import StoreError


class Job:
    """One work on its way through the thread: `work` goes in, `result` or `error` comes out."""

    __slots__ = ("context", "error", "future", "result", "work")

    def __init__(self, work: Callable[..., Any], future: asyncio.Future[Any]) -> None:
        self.work = work
        self.future = future
        self.context: Context = copy_context()
        self.result: Any = None
        self.error: BaseException | None = None

    def settle(self) -> None:
        if self.future.done():
            return  # its caller gave up
        if self.error is None:
            self.future.set_result(self.result)
        else:
            self.future.set_exception(self.error)


class Engine(Protocol):
    """What a worker's thread does; every method is called on that thread."""

    def open(self) -> None: ...

    def batch(self, jobs: Iterator[Job]) -> None:
        """Do `jobs` until they end, giving each a result or an error; never raises."""

    def look(self) -> float | None:
        """Called after each batch and nudge; answers in how many seconds to be called again."""

    def close(self) -> None: ...


class Worker:
    """Owns the thread from start() to stop(); what is public is for the loop that started it."""

    def __init__(self, name: str, engine: Engine, *, bound: int) -> None:
        self._name = name
        self._engine = engine
        self._queue: SimpleQueue[object] = SimpleQueue()
        self._room = asyncio.Semaphore(bound)
        self._thread = Thread(target=self._run, name=f"store {name}", daemon=True)
        self._stopping = False
        self._stop_seen = False

    async def start(self) -> None:
        """Open the engine on the new thread; its error, if any, is raised here."""
        self._loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._thread.start()
        await asyncio.shield(self._opened)

    async def submit(self, work: Callable[..., Any]) -> Any:
        """Do `work` on the thread; waits for room first, so memory is bounded."""
        loop = asyncio.get_running_loop()  # raises on a thread of a database: works don't nest
        await self._room.acquire()
        if self._stopping:
            self._room.release()
            raise StoreError(self._name, "is closed")
        job = Job(work, loop.create_future())
        self._queue.put(job)
        return await job.future

    def nudge(self) -> None:
        """Have the engine look around soon; may be called from any thread."""
        self._queue.put(_NUDGE)

    async def stop(self) -> None:
        """Finish every job that was submitted, close the engine, end the thread."""
        if not self._stopping:
            self._stopping = True
            self._queue.put(_STOP)
        await asyncio.shield(self._closed)

    def _run(self) -> None:
        try:
            self._engine.open()
        except BaseException as error:  # noqa: BLE001 - it is raised where start() was awaited
            self.post(_fail, self._opened, error)
            self.post(_succeed, self._closed)
            return
        self.post(_succeed, self._opened)
        try:
            self._serve()
        finally:
            self._engine.close()
            self.post(_succeed, self._closed)

    def _serve(self) -> None:
        pause = self._engine.look()
        while not self._stop_seen:
            with suppress(Empty):
                self._batch(self._queue.get(timeout=pause))
            pause = self._engine.look()

    def _batch(self, first: object) -> None:
        taken: list[Job] = []
        try:
            self._engine.batch(self._jobs(first, taken))
        except BaseException as error:  # noqa: BLE001 - whoever waits for a job has to learn of it
            for job in taken:
                job.error = job.error or error
        if taken:
            self.post(self._settle, taken)

    def _jobs(self, first: object, taken: list[Job]) -> Iterator[Job]:
        """`first` and what has been submitted meanwhile, while the engine keeps asking."""
        item = first
        with suppress(Empty):
            while True:
                if item is _STOP:
                    self._stop_seen = True
                    return
                if isinstance(item, Job):
                    taken.append(item)
                    if not item.future.cancelled():
                        yield item
                item = self._queue.get_nowait()

    def _settle(self, jobs: list[Job]) -> None:
        for job in jobs:
            job.settle()
            self._room.release()

    def post(self, call: Callable[..., None], *args: object) -> None:
        """Have the loop call `call`; for the thread."""
        with suppress(RuntimeError):  # the loop was closed without stop(): nobody is left to tell
            self._loop.call_soon_threadsafe(call, *args)


_NUDGE = object()
_STOP = object()


def _succeed(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _fail(future: asyncio.Future[None], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
