"""
A work and its statements, run on the thread that owns the connection.

`drive` runs a coroutine with nothing but send(None): every method of a SqliteTransaction answers
without suspending, so a work that suspends has awaited something that has no business here.
sqlite3's errors become ours here and nowhere else.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from mesh.store.database import Row, StatementFailed, StoreBusy, StoreError, Violation
from mesh.store.savepoint import Savepoint
from mesh.store.worker import Job

# "$1" is bound as the name "1".
_NAMES = tuple(str(number) for number in range(1, 1000))

_ONLY_TX = "a work may await only methods of its tx: it runs on the database's thread"


class SqliteTransaction:
    """One work's view of the connection; of no use once the work has ended."""

    __slots__ = ("_connection", "_path")

    def __init__(self, path: str, connection: sqlite3.Connection) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = connection

    def end(self) -> None:
        self._connection = None

    async def execute(self, sql: str, *args: object) -> int:
        return self._run(sql, args).rowcount

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        with translated(self._path):
            return self._run(sql, args).fetchall()

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    def post(self, sql: str, *args: object) -> None:
        self._run(sql, args)

    def savepoint(self) -> Savepoint:
        return Savepoint(self)

    def _run(self, sql: str, args: tuple[object, ...]) -> sqlite3.Cursor:
        if self._connection is None:
            raise StoreError(self._path, "this transaction has ended")
        with translated(self._path):
            return self._connection.execute(sql, dict(zip(_NAMES, args, strict=False)))


def drive(job: Job, path: str, connection: sqlite3.Connection) -> Any:
    """Run the job's work to its end in its caller's context; answers its result."""
    tx = SqliteTransaction(path, connection)
    coroutine = job.work(tx)
    try:
        job.context.run(coroutine.send, None)
    except StopIteration as done:
        return done.value
    except RuntimeError as error:
        if "no running event loop" in str(error):
            raise StoreError(path, _ONLY_TX) from error
        raise
    finally:
        tx.end()
    coroutine.close()
    raise StoreError(path, _ONLY_TX)


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Raise sqlite3's errors as ours, naming the file."""
    try:
        yield
    except sqlite3.Error as error:
        raise translation(path, error) from error


def translation(path: str, error: sqlite3.Error) -> StoreError:
    if isinstance(error, sqlite3.IntegrityError):
        return Violation(path, str(error))
    # Errors that Python itself raises (a bad parameter, a closed connection) carry no code.
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return StoreBusy(path, str(error))
    if code in (0, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE):
        return StatementFailed(path, str(error))
    return StoreError(path, str(error))
