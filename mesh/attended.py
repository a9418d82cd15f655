"""
A policy source where there is no channel to enter: followed from the first use until it is closed.

    interceptors, guards     a task on the loop that uses them         await ....aclose()
    blocking interceptors    a thread with a loop of its own           ....close()

Closing ends the following and nothing else: calls go on, by the last good policy.  Who forgets to
close leaks nothing: it also ends with the last reference to what it serves, and with its loop.

The rule for a changer: a follower never holds its owner, or neither would ever end.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

import discovery
from discovery.registry import Registry
from mesh.errors import PolicyError
from mesh.policy.config import Policy
from mesh.sources import PAUSE_SECONDS, Followed, PolicySource
from mesh.telemetry.events import Emit

LOG = logging.getLogger(__name__)

# How long closing waits for the thread that follows; seconds.
CLOSING_SECONDS = 5.0


class Attended:
    """What `owner.use` is told of a policy source; `what` it is for stands in errors."""

    def __init__(
        self,
        what: str,
        policy: Policy | PolicySource | None,
        use: Callable[[Policy], None],
        *,
        registry: Registry | str | None = None,
        emit: Emit | None = None,
    ) -> None:
        weak = weakref.WeakMethod(cast("Any", use))

        def tell(policy: Policy) -> None:
            put_in_force = weak()
            if put_in_force is not None:
                put_in_force(policy)

        self._followed = Followed(policy, tell, emit)
        self._registry = registry
        # Whether there is anything to follow: asked before each call.
        self.changes = self._followed.source is not None
        self.first = self._followed.first or Policy.production()
        self._closed = False
        source = self._followed.source
        if getattr(source, "needs_registry", False) and registry is None:
            why = f"must be given: {source} is kept by one"
            raise PolicyError(f"{what}.registry", None, why)
        if self.changes:
            weakref.finalize(cast("Any", use).__self__, self.forget).atexit = False

    @property
    def error(self) -> str:
        """What is wrong with the newest policy of the source; "" when it is in force."""
        return self._followed.error

    def forget(self) -> None:
        """End it from any thread, without waiting."""
        raise NotImplementedError

    @asynccontextmanager
    async def _following(self) -> AsyncIterator[None]:
        registry = self._registry
        if isinstance(registry, str):
            async with discovery.connect(registry) as opened, self._followed.following(opened):
                yield
        else:
            async with self._followed.following(registry):
                yield

    async def _live(self) -> None:
        while True:
            try:
                async with self._following():
                    await asyncio.Event().wait()
            except Exception:  # whatever a registry raises, the last good policy stays
                LOG.exception("policy: no registry to follow; again in %.0f s", PAUSE_SECONDS)
            await asyncio.sleep(PAUSE_SECONDS)


class AttendedTask(Attended):
    """Followed by a task on the loop of whoever calls."""

    _task: asyncio.Task[None] | None = None

    def attend(self) -> None:
        """See to it that the source is followed, on this loop."""
        task, loop = self._task, asyncio.get_running_loop()
        if self._closed or (task is not None and not task.done() and task.get_loop() is loop):
            return
        self.forget()
        self._task = loop.create_task(self._live(), name="mesh-policy")

    def forget(self) -> None:
        task, self._task = self._task, None
        if task is not None and not task.get_loop().is_closed():
            with suppress(RuntimeError):  # it is closed by now
                task.get_loop().call_soon_threadsafe(task.cancel)

    async def aclose(self) -> None:
        """Follow no more."""
        self._closed = True
        task = self._task
        self.forget()
        if task is not None and task.get_loop() is asyncio.get_running_loop():
            await asyncio.wait([task])


class AttendedThread(Attended):
    """Followed by a thread, for callers that block."""

    _thread: _Follower | None = None

    def attend(self) -> None:
        """See to it that the source is followed; after a fork, by a thread of the child."""
        if not self._closed and (self._thread is None or not self._thread.is_alive()):
            self._thread = _Follower(self._live)

    def forget(self) -> None:
        if self._thread is not None:
            self._thread.end()

    def close(self) -> None:
        """Follow no more."""
        self._closed = True
        self.forget()
        if self._thread is not None:
            self._thread.join(CLOSING_SECONDS)


class _Follower(threading.Thread):
    """A loop on a thread, for one coroutine that goes on until it is ended."""

    def __init__(self, live: Callable[[], Any]) -> None:
        super().__init__(name="mesh-policy", daemon=True)
        self._live = live
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self.start()

    def end(self) -> None:
        with suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._ending.set)

    def run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._until_ended())

    async def _until_ended(self) -> None:
        live = asyncio.ensure_future(self._live())
        ending = asyncio.ensure_future(self._ending.wait())
        await asyncio.wait([live, ending], return_when=asyncio.FIRST_COMPLETED)
        for task in (live, ending):
            task.cancel()
        await asyncio.wait([live, ending])
