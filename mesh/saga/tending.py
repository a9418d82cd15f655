"""
The sagas that a runner is running: one task each, and a lease that must not end under it.

A lease is moved ahead by every write to its journal; the sagas whose calls take long are seen to
here, all of them in one commit.  A saga that turns out to be another runner's is let go at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mesh.saga import journal
from mesh.saga.journal import Lease
from mesh.store.database import Database, StoreError, Transaction

logger = logging.getLogger("mesh.saga")

# How long a saga stays a silent runner's, in seconds: a dead one's sagas go on after this.
LEASE_SECONDS = 1.5
RENEW_SECONDS = LEASE_SECONDS / 4


@dataclass(slots=True)
class Tended:
    """One running saga; its lease ends at `until`."""

    lease: Lease
    task: asyncio.Task[None]
    until: float


class Tending:
    """Up to `limit` running sagas; `freed` is called when there is room for another."""

    def __init__(
        self,
        database: Database,
        limit: int,
        clock: Callable[[], float],
        freed: Callable[[], None],
    ) -> None:
        self._database = database
        self._limit = limit
        self._clock = clock
        self._freed = freed
        self._tended: dict[str, Tended] = {}

    @property
    def room(self) -> int:
        return self._limit - len(self._tended)

    def __contains__(self, saga_id: str) -> bool:
        return saga_id in self._tended

    def run(self, lease: Lease, course: Coroutine[Any, Any, None], until: float) -> None:
        """Run `course` under the lease, which ends at `until`."""
        task = asyncio.create_task(course, name=f"saga {lease.id}")
        self._tended[lease.id] = Tended(lease, task, until)
        task.add_done_callback(partial(self._ended, lease.id))

    def renewed(self, lease: Lease, until: float) -> None:
        """A write to the journal has moved the lease ahead."""
        if tended := self._tended.get(lease.id):
            tended.until = until

    async def renew(self) -> None:
        """Move leases ahead, for ever."""
        while True:
            await asyncio.sleep(RENEW_SECONDS)
            try:
                await self.keep(self._clock() + LEASE_SECONDS - RENEW_SECONDS)
            except StoreError as error:
                logger.warning("leases can't be renewed: %s", error)

    async def keep(self, before: float) -> bool:
        """
        Move the leases ahead that end by then, let go of those that are another's; whether any did.

        Some have ended already where the process was stopped, or its clock was put: whoever takes
        what is free would else take his own sagas from himself.
        """
        old = [each for each in self._tended.values() if each.until <= before]
        if not old:
            return False
        until = self._clock() + LEASE_SECONDS
        held = await self._database.transaction(partial(_extend, old=old, until=until))
        for each, ours in zip(old, held, strict=True):
            each.until = until if ours else math.inf
            if not ours and not each.task.done():
                logger.info("saga %s is run by somebody else now", each.lease.id)
                each.task.cancel()
        return True

    async def end(self, grace: float) -> None:
        """Wait `grace` seconds for the tasks to end, then cancel what is left."""
        tasks = [each.task for each in self._tended.values()]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, saga_id: str, task: asyncio.Task[None]) -> None:
        del self._tended[saga_id]
        if not task.cancelled() and (error := task.exception()):
            logger.error("saga %s is left until its lease ends", saga_id, exc_info=error)
        self._freed()


async def _extend(tx: Transaction, old: Sequence[Tended], until: float) -> list[bool]:
    return [await journal.extend(tx, each.lease, until) for each in old]
