"""
Migrations: numbered .sql files of a component, each applied once, ever.

    mesh/saga/migrations/0001_sagas.sql, 0002_..., ...       migrations("mesh.saga")
    mesh/events/migrations/outbox/0001_outbox.sql, ...       migrations("mesh.events", "outbox")

A database that has seen more migrations than this code knows belongs to newer code: it is refused
rather than written to by what doesn't understand it.

One text serves both dialects: it says bigint, double precision and bytea, which SQLite takes for
what they are, and COUNTED for a primary key that the database counts itself.
"""

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import cache
from importlib import resources

from mesh.store.database import StoreError, Transaction

COUNTED = "integer primary key autoincrement"

_FILE = re.compile(r"([0-9]{4})_[0-9a-z_]+\.sql")

_TABLE = """
create table if not exists mesh_migration (
    component text not null, number integer not null, primary key (component, number)
)
"""


@cache
def migrations(package: str, component: str = "") -> tuple[str, ...]:
    """The scripts in `migrations/` (or, of a component, a folder in it) of a package, in order."""
    folder = resources.files(package) / "migrations"
    if component:
        folder = folder / component
    found = sorted((each for each in folder.iterdir() if each.is_file()), key=lambda one: one.name)
    for number, file in enumerate(found, 1):
        named = _FILE.fullmatch(file.name)
        if named is None or int(named[1]) != number:
            why = f"should be {number:04}_<words>.sql: migrations count 1, 2, ... without a gap"
            raise StoreError(f"{folder}/{file.name}", why)
    return tuple(file.read_text("utf-8") for file in found)


def migration(
    path: str, component: str, migrations: Sequence[str]
) -> Callable[[Transaction], Awaitable[None]]:
    """The work that brings `component` up to date; all of it happens, or nothing."""

    async def work(tx: Transaction) -> None:
        await tx.execute(_TABLE)
        row = await tx.fetchrow(
            "select count(*) as applied from mesh_migration where component = $1", component
        )
        applied = row["applied"] if row else 0
        if applied > len(migrations):
            raise StoreError(
                path,
                f"{component} is at version {applied}, this program knows {len(migrations)}: "
                "it was written by a newer one",
            )
        for number, script in enumerate(migrations[applied:], start=applied + 1):
            for statement in statements(script):
                await tx.execute(statement)
            await tx.execute("insert into mesh_migration values ($1, $2)", component, number)

    return work


def statements(script: str) -> Iterator[str]:
    """The statements of a script; a ';' inside a text, a comment or a trigger ends none."""
    statement = ""
    for piece in script.split(";"):
        statement += piece + ";"
        if sqlite3.complete_statement(statement):
            if statement.strip(" \t\r\n;"):
                yield statement
            statement = ""
    if statement.strip(" \t\r\n;"):
        yield statement


class Declared:
    """Components that have to be migrated before the next transaction."""

    def __init__(self) -> None:
        self._waiting: dict[str, Sequence[str]] = {}
        self._lock = asyncio.Lock()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, component: str, migrations: Sequence[str]) -> None:
        self._waiting[component] = migrations

    async def settle(self, migrate: Callable[[str, Sequence[str]], Awaitable[None]]) -> None:
        """Migrate what waits; what fails waits on."""
        async with self._lock:
            while self._waiting:
                component, migrations = next(iter(self._waiting.items()))
                await migrate(component, migrations)
                del self._waiting[component]
