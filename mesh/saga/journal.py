"""
The journal: which sagas there are, who runs each, and what has happened, line by line.

    saga           one row a saga: its definition and data, its lease, when it may be run again
    saga_journal   its lines, only ever added to

A saga may be taken by any runner from `free_at` on.  A runner that takes it moves `free_at` ahead
and keeps doing so: that is the lease.  Taking also raises `token`; a write by who holds an older
one changes nothing (the fence), so a runner that slept through its lease can do no harm.

Two rules.  A line is written in the same transaction as what it tells of in this database, and
before the call it announces.  Nothing here reads a clock: `now` comes in, in seconds since 1970.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from mesh.saga.machine import Entry, What
from mesh.store.database import Row, Transaction

COMPONENT = "saga"

SagaState = Literal["running", "parked", "completed", "compensated"]


class LeaseLost(Exception):
    """Another runner has taken this saga: whoever finds out leaves it alone."""


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to write one saga's journal."""

    id: str
    definition: str
    owner: str
    token: int


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a journal as it is kept; `detail` is a result, a reason or a cause."""

    entry: Entry
    detail: Any
    at: float


@dataclass(frozen=True, slots=True)
class Instance:
    """One saga as its row and its journal tell."""

    id: str
    definition: str
    data: Mapping[str, Any]
    state: SagaState
    owner: str
    attempts: int
    deadline: float | None
    cause: str
    lines: tuple[Line, ...]
    # When it began, in seconds since 1970.
    started_at: float = 0.0

    @property
    def entries(self) -> tuple[Entry, ...]:
        return tuple(line.entry for line in self.lines)

    def details(self, what: What) -> dict[str, Any]:
        """By step (or signal), the detail of its last line of this sort."""
        return {line.entry.step: line.detail for line in self.lines if line.entry.what == what}

    @property
    def reason(self) -> str:
        """Why the saga went back: the first thing that made it; empty when nothing did."""
        for line in self.lines:
            if line.entry.what in ("refused", "turned"):
                return str(line.detail)
        return ""


async def insert(
    tx: Transaction,
    lease: Lease,
    data: Mapping[str, Any],
    deadline: float | None,
    now: float,
    free_at: float,
) -> Instance | None:
    """Enter a new saga; None when there is one of this id."""
    text = json.dumps(data)
    entered = await tx.execute(
        "insert into saga values ($1, $2, $3, 'running', $4, $5, $6, $7, 0, '', $8, null)"
        " on conflict (id) do nothing",
        lease.id,
        lease.definition,
        text,
        lease.owner,
        lease.token,
        free_at,
        deadline,
        now,
    )
    if not entered:
        return None
    return Instance(
        id=lease.id,
        definition=lease.definition,
        data=json.loads(text),
        state="running",
        owner=lease.owner,
        attempts=0,
        deadline=deadline,
        cause="",
        lines=(),
        started_at=now,
    )


async def take(
    tx: Transaction, owner: str, definitions: Sequence[str], limit: int, now: float, until: float
) -> list[Lease]:
    """Take up to `limit` sagas that are free, those that have waited longest first."""
    places = ", ".join(f"${number}" for number in range(5, 5 + len(definitions)))
    rows = await tx.fetch(
        "update saga set owner = $1, token = token + 1, free_at = $2 where id in ("  # noqa: S608
        " select id from saga where state = 'running' and free_at <= $3"
        f" and definition in ({places}) order by free_at limit $4"
        ") returning id, definition, owner, token",
        owner,
        until,
        now,
        limit,
        *definitions,
    )
    return [Lease(row["id"], row["definition"], row["owner"], row["token"]) for row in rows]


async def look(
    tx: Transaction, owner: str, since: float, definitions: Sequence[str]
) -> tuple[dict[Lease, float], float | None]:
    """
    The leases of the sagas that this owner has started since then and still has, each with its end;
    and when the next saga will be free, None when there is none.
    """
    places = ", ".join(f"${number}" for number in range(3, 3 + len(definitions)))
    rows = await tx.fetch(
        "select id, definition, token, free_at, 0 as next from saga"  # noqa: S608
        " where state = 'running' and owner = $1 and started_at >= $2 union all"
        " select * from (select id, definition, token, free_at, 1 as next from saga"
        f" where state = 'running' and definition in ({places}) order by free_at limit 1) as first",
        owner,
        since,
        *definitions,
    )
    leases = {
        Lease(row["id"], row["definition"], owner, row["token"]): row["free_at"]
        for row in rows
        if not row["next"]
    }
    return leases, next((row["free_at"] for row in rows if row["next"]), None)


async def hold(
    tx: Transaction, lease: Lease, until: float, known: tuple[Line, ...] = ()
) -> Instance:
    """
    Keep the lease until then; answers the saga as it is now, or LeaseLost is raised.

    Lines are only ever added: while there are as many as are `known`, they are the same.
    """
    row = await tx.fetchrow(
        "update saga set free_at = $4 where id = $1 and owner = $2 and token = $3"
        " and state = 'running' returning *,"
        " (select count(*) from saga_journal where saga_journal.id = saga.id) as lines",
        lease.id,
        lease.owner,
        lease.token,
        until,
    )
    if row is None:
        raise LeaseLost(lease.id)
    return _instance(row, known if row["lines"] == len(known) else await _lines(tx, lease.id))


async def find(tx: Transaction, saga_id: str) -> Instance | None:
    row = await tx.fetchrow("select * from saga where id = $1", saga_id)
    return _instance(row, await _lines(tx, saga_id)) if row else None


async def listed(
    tx: Transaction, state: SagaState, limit: int, after: tuple[float, str] = (0.0, "")
) -> list[Instance]:
    """Sagas of one state in the order in which they began, those after one's time and id."""
    rows = await tx.fetch(
        "select * from saga where state = $1 and (started_at, id) > ($2, $3)"
        " order by started_at, id limit $4",
        state,
        *after,
        limit,
    )
    return [_instance(row, await _lines(tx, row["id"])) for row in rows]


def write(
    tx: Transaction, instance: Instance, step: str, what: What, detail: Any, now: float
) -> Instance:
    """Add a line; answers the saga with it."""
    text = json.dumps(detail)
    tx.post(
        "insert into saga_journal values ($1, $2, $3, $4, $5, $6)",
        instance.id,
        len(instance.lines) + 1,
        step,
        what,
        text,
        now,
    )
    line = Line(Entry(step, what), json.loads(text), now)  # as whoever reads it will find it
    return replace(instance, lines=(*instance.lines, line))


def release(
    tx: Transaction, saga_id: str, free_at: float, *, attempts: int = 0, cause: str = ""
) -> None:
    """Give the lease back: anyone may take the saga from `free_at` on."""
    tx.post(
        "update saga set owner = '', free_at = $2, attempts = $3, cause = $4 where id = $1",
        saga_id,
        free_at,
        attempts,
        cause,
    )


async def give_back(tx: Transaction, owner: str, now: float) -> None:
    """Give all of an owner's leases back: anyone may take its sagas at once."""
    await tx.execute(
        "update saga set owner = '', free_at = $2 where state = 'running' and owner = $1",
        owner,
        now,
    )


async def extend(tx: Transaction, lease: Lease, until: float) -> bool:
    """Keep the lease until then; False when it is another's."""
    return (
        await tx.execute(
            "update saga set free_at = $4 where id = $1 and owner = $2 and token = $3"
            " and state = 'running'",
            lease.id,
            lease.owner,
            lease.token,
            until,
        )
        == 1
    )


def wake(tx: Transaction, saga_id: str, now: float) -> None:
    """Have the saga run soon, unless somebody is running it."""
    tx.post(
        "update saga set free_at = $2 where id = $1 and owner = '' and free_at > $2", saga_id, now
    )


def settle(
    tx: Transaction,
    saga_id: str,
    state: SagaState,
    now: float,
    cause: str = "",
    attempts: int = 0,
) -> None:
    """The saga is over, or parked; nobody holds it any more."""
    ended_at = None if state == "parked" else now
    tx.post(
        "update saga set state = $2, owner = '', ended_at = $3, cause = $4, attempts = $5"
        " where id = $1",
        saga_id,
        state,
        ended_at,
        cause,
        attempts,
    )


def resume(tx: Transaction, saga_id: str, now: float) -> None:
    """A parked saga runs again, with all its patience back."""
    tx.post(
        "update saga set state = 'running', free_at = $2, attempts = 0 where id = $1", saga_id, now
    )


def reset_attempts(tx: Transaction, instance: Instance) -> Instance:
    """Something went well: what failed before it no longer counts."""
    if instance.attempts:
        tx.post("update saga set attempts = 0, cause = '' where id = $1", instance.id)
    return replace(instance, attempts=0, cause="")


async def foreign(tx: Transaction, known: Sequence[str]) -> list[tuple[str, int]]:
    """Definitions of unfinished sagas that are not known, and how many sagas have each."""
    rows = await tx.fetch(
        "select definition, count(*) as sagas from saga"
        " where state in ('running', 'parked') group by definition order by definition"
    )
    return [(row[0], row[1]) for row in rows if row[0] not in known]


async def purge(tx: Transaction, before: float, limit: int = 200) -> int:
    """Forget sagas that ended before then."""
    rows = await tx.fetch("select id from saga where ended_at < $1 limit $2", before, limit)
    for row in rows:
        tx.post("delete from saga_journal where id = $1", row["id"])
        tx.post("delete from saga where id = $1", row["id"])
    return len(rows)


async def _lines(tx: Transaction, saga_id: str) -> tuple[Line, ...]:
    rows = await tx.fetch(
        "select step, what, detail, at from saga_journal where id = $1 order by number", saga_id
    )
    return tuple(
        Line(Entry(row["step"], row["what"]), json.loads(row["detail"]), row["at"]) for row in rows
    )


def _instance(row: Row, lines: tuple[Line, ...]) -> Instance:
    return Instance(
        id=row["id"],
        definition=row["definition"],
        data=json.loads(row["data"]),
        state=row["state"],
        owner=row["owner"],
        attempts=row["attempts"],
        deadline=row["deadline"],
        cause=row["cause"],
        lines=lines,
        started_at=row["started_at"],
    )
