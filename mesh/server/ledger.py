"""
What was asked under which key and what came of it: one row a key, in the service's own database.

    (none) --enter--> KEPT or DONE, by a handler whose effect is one transaction
    (none) --claim--> RUNNING --finish, keep-----------> DONE     answers replays until it expires
                         +----- keep, not final -------> KEPT     then finish --> DONE, or
                         |                                 owner gone, given up: counts as DONE
                         +----- give_up ---------------> (none)
                         +----- owner gone, lease over -> RUNNING, for whoever claims it

keep() writes inside the handler's own transaction, so that effect and reply are committed
together or not at all.  Whoever lost its lease can neither keep nor finish: `owner` is the fence.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from mesh.errors import Code, StatusError
from mesh.server.answer import Answer
from mesh.server.owner import is_gone
from mesh.status import DOMAIN

T = TypeVar("T")

COMPONENT = "idempotency"

RUNNING, KEPT, DONE = "running", "kept", "done"

_INSERT = (
    "insert into idempotency (scope, key, fingerprint, state, owner, leased_until, expires, type,"
    " reply, status) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
)
_OVER_WHAT_IS_FREE = (
    "do update set fingerprint = excluded.fingerprint, state = excluded.state,"
    " owner = excluded.owner, leased_until = excluded.leased_until, expires = excluded.expires,"
    " type = excluded.type, reply = excluded.reply, status = excluded.status"
)

# Rows deleted at once: a purge must not hold the writer for long.
PURGE_BATCH = 200
PURGE_SECONDS = 60.0


class Transaction(Protocol):
    """What the ledger needs of a database transaction."""

    async def execute(self, sql: str, *arguments: Any) -> int: ...

    async def fetchrow(self, sql: str, *arguments: Any) -> Any: ...


class Database(Protocol):
    """What the ledger needs of mesh.store."""

    async def migrate(self, name: str, migrations: Sequence[str]) -> None: ...

    async def transaction(self, work: Callable[[Any], Awaitable[T]]) -> T: ...

    async def read(self, work: Callable[[Any], Awaitable[T]]) -> T: ...

    def changes(self) -> AsyncIterator[None]: ...


@dataclass(frozen=True, slots=True)
class Mark:
    """One call's place in the ledger; `owner` is this run of the handler."""

    scope: str
    key: str
    fingerprint: bytes
    owner: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else is at it until `leased_until`, unless it renews."""

    leased_until: float


class Started:
    """The key is ours: run the handler."""


Found = Answer | Busy | Started
FREE = Started()


class Ledger:
    """The rows of one database, in the caller's transaction; times are seconds since 1970."""

    def __init__(self, clock: Callable[[], float], lease: float, retention: float) -> None:
        self._clock = clock
        self._lease = lease
        self._retention = retention
        self._purged = 0.0

    async def look(self, tx: Transaction, mark: Mark) -> Found:
        """What the ledger says of this key now; StatusError when it was another request's."""
        row = await tx.fetchrow(
            "select fingerprint, state, owner, leased_until, expires, type, reply, status"
            " from idempotency where scope = $1 and key = $2",
            mark.scope,
            mark.key,
        )
        now = self._clock()
        if row is None or row["expires"] <= now:
            return FREE
        if bytes(row["fingerprint"]) != mark.fingerprint:
            raise StatusError(
                Code.INVALID_ARGUMENT,
                "this idempotency key was used for another request",
                reason="IDEMPOTENCY_KEY_REUSED",
                domain=DOMAIN,
            )
        if row["state"] != DONE and row["leased_until"] > now and not is_gone(row["owner"]):
            return Busy(row["leased_until"])
        if row["state"] == RUNNING:
            return FREE
        return Answer(row["type"], _bytes(row["reply"]), _bytes(row["status"]))

    async def claim(self, tx: Transaction, mark: Mark) -> Found:
        """Take the key if it is free; of two that race, one gets it."""
        found = await self.look(tx, mark)
        if found is not FREE:
            return found
        await self._insert(tx, mark, RUNNING, Answer(), _OVER_WHAT_IS_FREE)
        return FREE

    async def enter(self, tx: Transaction, mark: Mark, state: str, answer: Answer) -> Found:
        """Take the key if it is free and record what came of it; what else is there if not."""
        if await self._insert(tx, mark, state, answer, "do nothing"):
            return FREE
        if await self.write(tx, mark, state, answer):
            return FREE  # it was ours: kept for now, or the work is run again
        found = await self.look(tx, mark)
        if found is FREE:
            await self._insert(tx, mark, state, answer, _OVER_WHAT_IS_FREE)
        return found

    async def renew(self, tx: Transaction, mark: Mark) -> bool:
        """Hold the key for another lease; False when it is no longer ours."""
        changed = await tx.execute(
            "update idempotency set leased_until = $1"
            " where scope = $2 and key = $3 and owner = $4 and state <> 'done'",
            self._clock() + self._lease,
            mark.scope,
            mark.key,
            mark.owner,
        )
        return changed == 1

    async def write(self, tx: Transaction, mark: Mark, state: str, answer: Answer) -> bool:
        """Record what came of it, as KEPT or DONE; False when the key is no longer ours."""
        changed = await tx.execute(
            "update idempotency set state = $1, type = $2, reply = $3, status = $4, expires = $5"
            " where scope = $6 and key = $7 and owner = $8",
            state,
            answer.type,
            answer.reply,
            answer.status,
            self._clock() + self._retention,
            mark.scope,
            mark.key,
            mark.owner,
        )
        return changed == 1

    async def give_up(self, tx: Transaction, mark: Mark) -> None:
        """Free the key at once; what has been kept stays, for its effect was committed."""
        mine = (mark.scope, mark.key, mark.owner)
        await tx.execute(
            "delete from idempotency"
            " where scope = $1 and key = $2 and owner = $3 and state = 'running'",
            *mine,
        )
        await tx.execute(
            "update idempotency set state = 'done'"
            " where scope = $1 and key = $2 and owner = $3 and state = 'kept'",
            *mine,
        )

    async def _insert(
        self, tx: Transaction, mark: Mark, state: str, answer: Answer, conflict: str
    ) -> bool:
        now = self._clock()
        await self._purge(tx, now)
        inserted = await tx.execute(
            f"{_INSERT} on conflict (scope, key) {conflict}",
            mark.scope,
            mark.key,
            mark.fingerprint,
            state,
            mark.owner,
            now + self._lease,
            now + self._retention,
            answer.type,
            answer.reply,
            answer.status,
        )
        return inserted == 1

    async def _purge(self, tx: Transaction, now: float) -> None:
        """Forget some of what has expired: once a minute, with each claim while much is left."""
        if now - self._purged < PURGE_SECONDS:
            return
        removed = await tx.execute(
            "delete from idempotency where (scope, key) in"
            " (select scope, key from idempotency where expires <= $1 limit $2)",
            now,
            PURGE_BATCH,
        )
        if removed < PURGE_BATCH:
            self._purged = now


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)
