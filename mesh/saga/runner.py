"""
The runner: takes sagas that are free, makes their calls, and keeps their leases while it does.

    async with SagaRunner(database, [place_order], owner="orders-1") as runner:
        await database.transaction(lambda tx: runner.start(tx, "place-order", order_id, {...}))

    look -----> take what is free -----> one task a saga: advance, call, advance, call, ... end
     ^                                        |
     +--- commits by any process, timers <----+

Any number of runners may share a database.  One that dies leaves nothing but leases, which end
after LEASE_SECONDS; one that leaves gives them back at once.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from random import Random
from typing import Any, Self
from uuid import uuid4

from mesh.policy.backoff import Backoff
from mesh.saga import journal
from mesh.saga.calling import call
from mesh.saga.course import Ask, Outcome, Terms, advance, begin, postpone, turn
from mesh.saga.journal import Instance, Lease, LeaseLost, SagaState
from mesh.saga.machine import SagaError
from mesh.saga.saga import Saga
from mesh.saga.tending import LEASE_SECONDS, Tending
from mesh.store.database import Database, StoreError, Transaction
from mesh.store.migrate import migrations

logger = logging.getLogger("mesh.saga")

# Between two calls of the same step.
BACKOFF = Backoff(base=0.1, cap=10.0)
# Longest time between two looks at the database, in seconds.
LOOK_SECONDS = 0.5
# Ended sagas are kept for this long, in seconds, and looked for this often.
RETENTION_SECONDS = 7 * 24 * 3600.0
PURGE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class _Started:
    """When a saga of ours was started, until when it is ours, and the call announced with that."""

    at: float
    until: float
    ask: Ask | None


class SagaRunner:
    """Sees the sagas of one database through, up to `limit` at once."""

    def __init__(
        self,
        database: Database,
        sagas: Sequence[Saga],
        *,
        owner: str = "saga",
        limit: int = 64,
        backoff: Backoff = BACKOFF,
        grace: float = 2.0,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
    ) -> None:
        self._database = database
        self._sagas = {saga.definition: saga for saga in sagas}
        self._latest = {saga.name: saga for saga in sorted(sagas, key=lambda saga: saga.version)}
        if len({(saga.name, saga.version) for saga in sagas}) != len(sagas):
            raise SagaError("two sagas have the same name and version")
        # Which process, and which of its lives.
        self.owner = f"{owner}#{uuid4().hex[:12]}"
        self._backoff = backoff
        self._grace = grace
        self._clock = clock
        self._rng = rng or Random()
        self._news = asyncio.Event()
        self._tending = Tending(database, limit, clock, self._news.set)
        self._open = False
        self._purge_at = 0.0
        # Sagas that are still to be seen to; their transactions may commit late, or never.
        self._started: dict[Lease, _Started] = {}

    async def __aenter__(self) -> Self:
        await self._database.migrate(journal.COMPONENT, migrations("mesh.saga"))
        known = tuple(self._sagas)
        for definition, count in await self._database.read(partial(journal.foreign, known=known)):
            logger.warning("%d unfinished sagas of %s are left to others", count, definition)
        self._open = True
        loops = (self._listen(), self._look(), self._tending.renew())
        self._loops = [asyncio.create_task(loop) for loop in loops]
        return self

    async def __aexit__(self, *reason: object) -> None:
        """Let the calls being made end, as far as `grace` allows; give every lease back."""
        self._open = False
        try:
            await self._tending.end(self._grace)
        finally:
            for loop in self._loops:
                loop.cancel()
            await asyncio.gather(*self._loops, return_exceptions=True)
            give_back = partial(journal.give_back, owner=self.owner, now=self._clock())
            await self._database.transaction(give_back)

    async def start(
        self,
        tx: Transaction,
        saga: str,
        id: str,  # noqa: A002
        data: Mapping[str, Any] | None = None,
    ) -> bool:
        """Enter a saga with this transaction; False when its id is taken.  `data` becomes JSON."""
        latest = self._latest.get(saga)
        if latest is None:
            raise SagaError(f"there is no saga {saga!r} here, only {sorted(self._latest)}")
        now = self._clock()
        lease = Lease(id, latest.definition, self.owner if self._open else "", token=1)
        until = now + LEASE_SECONDS if self._open else now
        begun = await begin(tx, latest, lease, data or {}, now, until)
        if begun and lease.owner:
            self._started[lease] = _Started(now, until, begun.ask)
        return begun is not None

    async def cancel(self, tx: Transaction, id: str, reason: str) -> bool:  # noqa: A002
        """Turn a saga back; False when it is too late for that, or there is no such saga."""
        instance = await journal.find(tx, id)
        if instance is None:
            return False
        return turn(tx, self._saga(instance.definition), instance, reason, self._clock())

    async def signal(self, tx: Transaction, id: str, name: str, value: Any = None) -> bool:  # noqa: A002
        """Tell a saga something, for `context.signals`; a step that said Later is asked again."""
        instance = await journal.find(tx, id)
        if instance is None or instance.state not in ("running", "parked"):
            return False
        now = self._clock()
        journal.write(tx, instance, name, "signalled", value, now)
        journal.wake(tx, id, now)
        return True

    async def replay(self, tx: Transaction, id: str) -> bool:  # noqa: A002
        """Have a parked saga try again; False when it is not parked."""
        instance = await journal.find(tx, id)
        if instance is None or instance.state != "parked":
            return False
        now = self._clock()
        journal.write(tx, instance, "", "replayed", None, now)
        journal.resume(tx, id, now)
        return True

    async def find(self, tx: Transaction, id: str) -> Instance | None:  # noqa: A002
        """A saga and its journal."""
        return await journal.find(tx, id)

    async def listed(
        self,
        tx: Transaction,
        state: SagaState = "parked",
        limit: int = 100,
        after: tuple[float, str] = (0.0, ""),
    ) -> list[Instance]:
        """Sagas of one state, the oldest first: those that wait for an operator, unless told."""
        return await journal.listed(tx, state, limit, after)

    async def _listen(self) -> None:
        async for _ in self._database.changes():
            self._news.set()

    async def _look(self) -> None:
        """Take what there is to run, whenever there may be something, for ever."""
        pause = 0.0
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._news.wait()
            self._news.clear()
            if not self._open:
                return
            try:
                pause = await self._take()
                await self._purge()
            except StoreError as error:
                logger.warning("sagas can't be looked for: %s", error)
                pause = LOOK_SECONDS

    async def _take(self) -> float:
        """Run what is ours and what is free; answers for how many seconds nothing more will be."""
        now = self._clock()
        # Copied at once: `start` may run on the database's thread.
        for lease, each in tuple(self._started.items()):
            if each.until <= now:
                del self._started[lease]  # if it was committed, it is anybody's now
        if self._tending.room <= 0:
            return LOOK_SECONDS
        known = tuple(self._sagas)
        since = min((each.at for each in tuple(self._started.values())), default=math.inf)
        look = partial(journal.look, owner=self.owner, since=since, definitions=known)
        leases, next_free = await self._database.read(look)
        self._run(leases)
        now, room = self._clock(), self._tending.room
        if next_free is None or room <= 0:
            return LOOK_SECONDS
        if next_free > now:
            return min(LOOK_SECONDS, next_free - now)
        if await self._tending.keep(now):
            return 0.0  # perhaps it was one of those that is free

        async def take(tx: Transaction) -> list[Lease]:
            return await journal.take(tx, self.owner, known, room, now, now + LEASE_SECONDS)

        taken = await self._database.transaction(take)
        self._run(dict.fromkeys(taken, now + LEASE_SECONDS))
        return 0.0

    def _run(self, leases: Mapping[Lease, float]) -> None:
        """See through the sagas of these leases, each with its end, that are not seen to yet."""
        for lease, until in leases.items():
            if self._open and self._tending.room > 0 and lease.id not in self._tending:
                started = self._started.pop(lease, None)
                ask = started.ask if started else None
                if until - self._clock() < LEASE_SECONDS / 2:
                    ask = None  # the call could outlast the lease: it is moved ahead first
                self._tending.run(lease, self._see_through(lease, ask), until)

    async def _see_through(self, lease: Lease, ask: Ask | None) -> None:
        saga = self._saga(lease.definition)
        try:
            ask = ask or await self._advance(saga, lease, None, None)
            while ask:
                ask = await self._advance(saga, lease, ask, await call(saga, ask))
        except LeaseLost:
            logger.info("saga %s is run by somebody else now", lease.id)

    async def _advance(
        self, saga: Saga, lease: Lease, asked: Ask | None, outcome: Outcome | None
    ) -> Ask | None:
        now = self._clock()
        terms = Terms(now, now + LEASE_SECONDS, self._delay, leaving=not self._open)
        try:
            ask: Ask | None = await self._database.transaction(
                lambda tx: advance(tx, saga, lease, terms, asked, outcome)
            )
        except LeaseLost:
            raise
        except Exception as error:
            # A hook's error, or the database's: nothing of it was written, so ask again later.
            command = asked and asked.command
            logger.exception("saga %s: what came of %s can't be written", lease.id, command)
            cause = f"{type(error).__name__}: {error}"
            await self._database.transaction(lambda tx: postpone(tx, lease, terms, cause))
            return None
        self._tending.renewed(lease, terms.until)
        return ask

    async def _purge(self) -> None:
        now = self._clock()
        if now >= self._purge_at and self._tending.room > 0:
            self._purge_at = now + PURGE_SECONDS
            await self._database.transaction(partial(journal.purge, before=now - RETENTION_SECONDS))

    def _delay(self, attempts: int) -> float:
        return self._backoff.delay(attempts, self._rng)

    def _saga(self, definition: str) -> Saga:
        saga = self._sagas.get(definition)
        if saga is None:
            raise SagaError(f"this runner doesn't know {definition}, only {sorted(self._sagas)}")
        return saga
