"""
A session: one connection, made when it is needed and anew when it was lost, and works on it.

    do(job):   BEGIN --> work --> COMMIT -----------------> its result
                 ^         |        |
                 |         |        +-- connection lost --> StoreError: nobody knows
                 +--Again--+-- raised: ROLLBACK ----------> its error
              for `patience` seconds, then StoreBusy
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

from mesh.store.database import StatementFailed, StoreBusy, StoreError
from mesh.store.postgres.address import Address
from mesh.store.postgres.failures import OUTSIDE, Again, Away, translation
from mesh.store.postgres.work import Answer, Ask, conduct
from mesh.store.worker import Job

# Between two tries, in seconds: at first at most, and at last at most.
_FIRST_PAUSE, _LAST_PAUSE = 0.002, 0.25
# Prepared statements kept per connection.
_STATEMENTS = 512
# What changes nothing that others could see.
_QUIET = frozenset({"SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "SHOW"})


class Session:
    """Does one job after another; `begin` opens their transactions, `wrote` hears of commits."""

    def __init__(
        self, address: Address, begin: str, wrote: Callable[[], None], patience: float
    ) -> None:
        self._address = address
        self._begin = begin
        self._wrote = wrote
        self._patience = patience
        self._rng = Random()
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}

    async def do(self, job: Job) -> Any:
        """The result of the job's work, once it is durable."""
        clock = asyncio.get_running_loop().time
        give_up, pause = clock() + self._patience, _FIRST_PAUSE
        while True:
            try:
                return await self._once(job)
            except Again as again:
                if clock() >= give_up:
                    raise StoreBusy(again.path, again.cause) from again
            await asyncio.sleep(self._rng.uniform(0, pause))
            pause = min(_LAST_PAUSE, pause * 2)

    async def open(self) -> None:
        """Make the connection now, if there is none."""
        if self._connection is None or self._connection.is_closed():
            self._prepared.clear()
            self._connection = await self._address.connect()

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except OUTSIDE:
                connection.terminate()

    async def _once(self, job: Job) -> Any:
        await self.open()
        attempt = _Attempt(self._address.name, self._connection, self._prepared)
        try:
            await attempt.say(self._begin)
            result = await conduct(job, self._address.name, attempt.answer)
        except BaseException as error:
            await self._undo(attempt)
            if attempt.again and not isinstance(error, asyncio.CancelledError):
                raise attempt.again from error
            raise
        if attempt.again:
            await self._undo(attempt)
            raise attempt.again
        await self._commit(attempt)
        return result

    async def _commit(self, attempt: _Attempt) -> None:
        try:
            verdict = await attempt.say("commit")
        except Away as lost:
            self._drop()
            cause = f"lost while it was committing, nobody knows whether it did: {lost.cause}"
            raise StoreError(lost.path, cause) from lost
        if verdict == "ROLLBACK":
            # A statement had failed, and the work went on as if it had not.
            raise StatementFailed(self._address.name, f"nothing stands after: {attempt.failed}")
        if attempt.wrote:
            self._wrote()

    async def _undo(self, attempt: _Attempt) -> None:
        if isinstance(attempt.again, Away):
            self._drop()
            return
        if attempt.stale:
            self._prepared.clear()
        try:
            await attempt.say("rollback")
        except StoreError:
            self._drop()  # the server rolls back what it loses

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class _Attempt:
    """One transaction on a connection: what it has met, and whether it has written."""

    def __init__(self, name: str, connection: Any, prepared: dict[str, Any]) -> None:
        self._name = name
        self._connection = connection
        self._prepared = prepared
        self.again: Again | None = None
        self.failed: StoreError | None = None
        self.wrote = False

    @property
    def stale(self) -> bool:
        """Whether a prepared statement may have outlived the schema it was made for."""
        return self.again is not None and "schema" in self.again.cause

    async def say(self, sql: str) -> str:
        """Run what takes no arguments; answers what the server calls it."""
        try:
            return str(await self._connection.execute(sql))
        except OUTSIDE as error:
            raise self._met(error) from error

    async def answer(self, ask: Ask) -> Answer:
        """Run a work's statement; after an Again there is none: the work can only end."""
        if self.again:
            raise self.again
        try:
            statement = self._prepared.get(ask.sql) or await self._prepare(ask.sql)
            rows = await statement.fetch(*ask.args)
        except OUTSIDE as error:
            raise self._met(error) from error
        return Answer(rows, self._count(statement.get_statusmsg()))

    async def _prepare(self, sql: str) -> Any:
        if len(self._prepared) >= _STATEMENTS:
            del self._prepared[next(iter(self._prepared))]
        statement = self._prepared[sql] = await self._connection.prepare(sql)
        return statement

    def _count(self, tag: str) -> int:
        """How many rows a statement changed, by its tag: "INSERT 0 3", "UPDATE 1", "BEGIN"."""
        verb, *_, last = tag.split(" ") if " " in tag else (tag, "")
        count = int(last) if last.isdigit() else 0
        if verb not in _QUIET and (count or not last.isdigit()):
            self.wrote = True
        return count

    def _met(self, error: BaseException) -> StoreError:
        ours = translation(self._name, error)
        if isinstance(ours, Again):
            self.again = ours
        else:
            self.failed = self.failed or ours
        return ours
