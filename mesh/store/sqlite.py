"""
SQLite, shared by several processes, durable, and never on the event loop.

    transaction(work) -> writer thread:  turnstile { BEGIN IMMEDIATE
                                             SAVEPOINT  work  RELEASE      one per work
                                             SAVEPOINT  work  ROLLBACK TO  (it raised)
                                         COMMIT }                          one fsync for all
    read(work)        -> reader thread:  BEGIN  work  work  ROLLBACK       one snapshot for all
    changes()         <- both threads:   each commit here; data_version every 40 ms for the others

Two rules.  A work's result is told only after the COMMIT that holds it.  A batch ends after
BATCH_SECONDS however many works wait, so that the other processes get their turn.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Self

from mesh.store.changes import Audience
from mesh.store.database import StoreBusy, StoreError, T, Work
from mesh.store.migrate import Declared, migration
from mesh.store.opening import open_reader, open_writer, prepare
from mesh.store.statement import drive, translation
from mesh.store.turnstile import Turnstile
from mesh.store.worker import Job, Worker

# Works begun per commit end after this long, in seconds; one work may take longer.
BATCH_SECONDS = 0.02
# How often other processes' commits are looked for, in seconds.
LOOK_SECONDS = 0.04
# How long the write lock is waited for, in seconds, before StoreBusy.
PATIENCE_SECONDS = 10.0
# Reads that share one snapshot.
READS = 64
# Works that may wait for each thread; further callers wait outside.
BOUND = 1024


class SqliteDatabase:
    """The database in one file; enter it before use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits = 0
        self.works = 0
        self._audience = Audience()
        self._declared = Declared()
        self._reading = _Reader(self)
        self._writer = Worker(str(path), _Writer(self), bound=BOUND)
        self._reader = Worker(str(path), self._reading, bound=BOUND)

    async def __aenter__(self) -> Self:
        await self._writer.start()
        try:
            await self._reader.start()
        except BaseException:
            await self._writer.stop()
            raise
        return self

    async def __aexit__(self, *reason: object) -> None:
        try:
            await self._reader.stop()
        finally:
            await self._writer.stop()
        self._audience.end()

    async def migrate(self, component: str, migrations: Sequence[str]) -> None:
        await self._writer.submit(migration(str(self.path), component, migrations))

    def declare(self, component: str, migrations: Sequence[str]) -> None:
        self._declared.add(component, migrations)

    async def transaction(self, work: Work[T]) -> T:
        if self._declared:
            await self._declared.settle(self.migrate)
        result: T = await self._writer.submit(work)
        return result

    async def read(self, work: Work[T]) -> T:
        if self._declared:
            await self._declared.settle(self.migrate)
        result: T = await self._reader.submit(work)
        return result

    def changes(self) -> AsyncIterator[None]:
        changes = self._audience.join()
        self._reading.watched = True
        self._reader.nudge()
        return changes

    def committed(self) -> None:
        """The writer has committed something; called on its thread."""
        if self._reading.watched:
            self._writer.post(self._announce)

    def changed(self) -> None:
        """Something was committed to the file; called on the reader's thread."""
        self._reader.post(self._announce)

    def _announce(self) -> None:
        self._audience.wake()
        self._reading.watched = bool(self._audience)


class _Writer:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._path = str(database.path)

    def open(self) -> None:
        prepare(self._database.path)
        self._turnstile = Turnstile(self._database.path)
        try:
            with self._turnstile.passing(PATIENCE_SECONDS):
                self._connection = open_writer(self._database.path)
        except TimeoutError:
            self._turnstile.close()
            raise StoreBusy(self._path, "another process is opening it and does not end") from None
        except BaseException:
            self._turnstile.close()
            raise

    def batch(self, jobs: Iterator[Job]) -> None:
        for first in jobs:
            begun = [first]
            try:
                with self._turnstile.passing(PATIENCE_SECONDS):
                    self._commit(jobs, begun)
            except TimeoutError:
                cause = f"another process has been writing for {PATIENCE_SECONDS:.0f} s"
                _lose((first, *jobs), StoreBusy(self._path, cause))
            except sqlite3.Error as error:
                _lose(begun, translation(self._path, error))
            return

    def _commit(self, jobs: Iterator[Job], begun: list[Job]) -> None:
        """One transaction for what `jobs` gives in time; an error says that none of it stands."""
        connection, before = self._connection, self._connection.total_changes
        ends = time.monotonic() + BATCH_SECONDS
        try:
            connection.execute("begin immediate")
            self._do(begun[0])
            while time.monotonic() < ends and (job := next(jobs, None)):
                begun.append(job)
                self._do(job)
            connection.execute("commit")
        finally:
            if connection.in_transaction:
                connection.execute("rollback")
        self._database.works += len(begun)
        if connection.total_changes != before:
            self._database.commits += 1
            self._database.committed()

    def _do(self, job: Job) -> None:
        """Run one work under its savepoint.  Some errors (disk full) end the whole transaction."""
        connection = self._connection
        connection.execute("savepoint work")
        try:
            job.result = drive(job, self._path, connection)
        except BaseException as error:
            job.error = error
            if not connection.in_transaction:
                raise sqlite3.OperationalError(f"the commit was lost: {error}") from error
            connection.execute("rollback to work")
        connection.execute("release work")

    def look(self) -> float | None:
        return None

    def close(self) -> None:
        self._connection.close()
        self._turnstile.close()


class _Reader:
    """Reads, and notices commits: `watched` says whether anyone wants to know."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._path = str(database.path)
        self._version = 0
        self.watched = False

    def open(self) -> None:
        self._connection = open_reader(self._database.path)
        self._version = self._data_version()

    def batch(self, jobs: Iterator[Job]) -> None:
        # All are taken before the snapshot is: each sees every commit made before it was submitted.
        begun = tuple(islice(jobs, READS))
        try:
            self._connection.execute("begin")
            for job in begun:
                try:
                    job.result = drive(job, self._path, self._connection)
                except BaseException as error:  # noqa: BLE001 - raised where the work was awaited
                    job.error = error
        except sqlite3.Error as error:
            _lose(begun, translation(self._path, error))
        finally:
            if self._connection.in_transaction:
                self._connection.execute("rollback")

    def look(self) -> float | None:
        if not self.watched:
            return None
        version = self._data_version()
        if version != self._version:
            self._version = version
            self._database.changed()
        return LOOK_SECONDS

    def _data_version(self) -> int:
        """A number that is another after each commit of another connection, in any process."""
        try:
            (version,) = self._connection.execute("pragma data_version").fetchone()
        except sqlite3.Error:
            return self._version  # busy for a moment: the next look tells
        return int(version)

    def close(self) -> None:
        self._connection.close()


def _lose(jobs: Iterable[Job], error: StoreError) -> None:
    for job in jobs:
        job.error = job.error or error
