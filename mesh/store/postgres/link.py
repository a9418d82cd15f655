"""
A link: one connection, made when it is needed and anew when it was lost, and statements on it.

It knows what the transaction on it has come to: whether it was lost, is broken, has written.
"""

from __future__ import annotations

from typing import Any

from mesh.store.database import StoreError
from mesh.store.postgres.address import Address
from mesh.store.postgres.failures import OUTSIDE, Again, Away, translation
from mesh.store.postgres.work import Answer, Ask

# Prepared statements kept.
_STATEMENTS = 512
# What changes nothing that others could see.
_QUIET = frozenset({"SELECT", "SAVEPOINT", "RELEASE", "ROLLBACK", "SET", "SHOW"})


class Link:
    """Used by one task at a time."""

    def __init__(self, address: Address, **settings: str) -> None:
        self.name = address.name
        self._address = address
        self._settings = settings
        self._connection: Any = None
        self._prepared: dict[str, Any] = {}
        # Why the transaction can't go on, but only be run again.
        self.again: Again | None = None
        # The statement that failed; until a rollback nothing else is heard.
        self.broken: StoreError | None = None
        self.wrote = False

    async def open(self) -> None:
        """Have a connection, with nothing going on."""
        self.again = self.broken = None
        self.wrote = False
        if self._connection is None or self._connection.is_closed():
            self._connection = None
            self._prepared.clear()
            self._connection = await self._address.connect(**self._settings)

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        self._prepared.clear()
        if connection is not None:
            try:
                await connection.close(timeout=1.0)
            except OUTSIDE:
                connection.terminate()

    def drop(self) -> None:
        """Forget the connection: the server rolls back what it loses."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def reset(self) -> None:
        """Roll back whatever is going on."""
        if isinstance(self.again, Away):
            self.drop()
        if self._connection is None:
            return
        if self.again:
            self._prepared.clear()  # the schema may be another one now
        try:
            await self.say("rollback")
        except StoreError:
            self.drop()

    async def say(self, *script: str) -> None:
        """Run statements without arguments, in one exchange."""
        try:
            await self._connection.execute(";".join(script))
        except OUTSIDE as error:
            raise self._met(error) from error
        self.broken = None

    async def answer(self, ask: Ask) -> Answer:
        """Run a work's statement; once the transaction is lost, there is no answer to any."""
        if self.again:
            raise self.again
        try:
            statement = self._prepared.get(ask.sql) or await self._prepare(ask.sql)
            rows = await statement.fetch(*ask.args)
        except OUTSIDE as error:
            raise self._met(error) from error
        verb, _, rest = statement.get_statusmsg().partition(" ")
        count = int(last) if (last := rest.rpartition(" ")[2]).isdigit() else 0
        if verb == "ROLLBACK":
            self.broken = None
        if verb not in _QUIET and (count or not last.isdigit()):
            self.wrote = True
        return Answer(rows, count)

    async def _prepare(self, sql: str) -> Any:
        if len(self._prepared) >= _STATEMENTS:
            del self._prepared[next(iter(self._prepared))]
        statement = self._prepared[sql] = await self._connection.prepare(sql)
        return statement

    def _met(self, error: BaseException) -> StoreError:
        ours = translation(self.name, error)
        if isinstance(ours, Again):
            self.again = ours
        else:
            self.broken = self.broken or ours
        return ours
