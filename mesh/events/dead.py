"""
Dead letters: the held events of a whole database that wait for an operator, whoever's they are.

    dead  --redrive-->  due: tried by whoever holds it, within a second
      |
      +----drop------>  gone: the next one of its aggregate is due

A dead letter's name is its consumer, its source and its position.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote, unquote

from mesh.events import held
from mesh.events.held import Held
from mesh.events.inbox import COMPONENT
from mesh.store.database import Database, Row, Transaction
from mesh.store.migrate import migrations


class Name(NamedTuple):
    """Which held event; as text percent-encoded, with '/' between its parts."""

    consumer: str
    source: str
    position: int

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name that `text` spells; ValueError when it spells none."""
        parts = text.split("/")
        if len(parts) != 3 or not (parts[2].isascii() and parts[2].isdigit()):
            raise ValueError(f"{text!r} is not CONSUMER/SOURCE/POSITION")
        return cls.checked(unquote(parts[0]), unquote(parts[1]), int(parts[2][:20]))

    @classmethod
    def checked(cls, consumer: str, source: str, position: int) -> Name:
        """The name of these parts; ValueError where no database would have them."""
        if "\0" in consumer + source or not -1 <= position < 2**63:
            raise ValueError(f"({consumer!r}, {source!r}, {position}) names no event")
        return cls(consumer, source, position)

    def __str__(self) -> str:
        return f"{quote(self.consumer, ':')}/{quote(self.source, ':')}/{self.position}"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A held event at the head of its line: `dead_at` is when it was given up, if it still is."""

    name: Name
    held: Held
    dead_at: float | None
    # Later events of the same aggregate, behind it.
    waiting: int


class DeadLetters:
    """Those of one database."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        database.declare(COMPONENT, migrations("mesh.events", COMPONENT))

    async def listed(self, tx: Transaction, limit: int, after: Name | None) -> list[DeadLetter]:
        """The next ones after a name, or the first."""
        after = after or Name("", "", -1)
        rows = await tx.fetch(
            f"{_SELECT} where dead_at is not null"
            " and (consumer, source, position) > ($1, $2, $3)"
            " order by consumer, source, position limit $4",
            *after,
            limit,
        )
        return [_letter(row) for row in rows]

    async def find(self, tx: Transaction, name: Name) -> DeadLetter | None:
        """The one of this name, dead or being tried again; None where there is none."""
        row = await tx.fetchrow(
            f"{_SELECT} where consumer = $1 and source = $2 and position = $3"
            " and (dead_at is not null or due_at is not null)",
            *name,
        )
        return _letter(row) if row else None

    async def redrive(self, tx: Transaction, name: Name) -> bool:
        """Have it tried again, with all its attempts back; False when it is not dead."""
        return await held.redrive(tx, *name, self._clock())

    async def drop(self, tx: Transaction, name: Name) -> bool:
        """Give it up: those behind it go on without it; False when it is not dead."""
        return await held.drop(tx, *name, self._clock())


_SELECT = (
    "select *, (select count(*) from inbox_held later where later.consumer = inbox_held.consumer"
    " and later.source = inbox_held.source and later.aggregate = inbox_held.aggregate"
    " and later.aggregate_id = inbox_held.aggregate_id"
    " and later.position > inbox_held.position) as waiting from inbox_held"
)


def _letter(row: Row) -> DeadLetter:
    name = Name(row["consumer"], row["source"], row["position"])
    return DeadLetter(name, held.of(row), row["dead_at"], row["waiting"])
