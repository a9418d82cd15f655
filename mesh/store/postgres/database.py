"""PostgresDatabase: the port of mesh.store on a PostgreSQL server; enter it before use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Self

from mesh.store.changes import Audience
from mesh.store.database import T, Transaction, Work
from mesh.store.migrate import COUNTED, Declared, migration
from mesh.store.postgres.address import Address
from mesh.store.postgres.crew import Crew
from mesh.store.postgres.news import LOOK_SECONDS, News
from mesh.store.postgres.session import Session

# Connections of one process: for transactions and for reads.  One more brings the news.
WRITERS, READERS = 6, 3
# Works that may wait for either; further callers wait outside.
BOUND = 1024
# How long a work that met another is begun again, or an absent server looked for, in seconds.
PATIENCE_SECONDS = 10.0

_TRANSACTION = "begin isolation level serializable"
_READ = "begin isolation level repeatable read read only"
# Held while a component is migrated; what the holder before committed is seen then.
_MIGRATING = "begin isolation level read committed"
_MIGRATION_LOCK = 0x6D657368  # "mesh"
_COUNTED = "bigint generated always as identity primary key"


class PostgresDatabase:
    """The database at one URL."""

    def __init__(
        self,
        url: str,
        *,
        writers: int = WRITERS,
        readers: int = READERS,
        patience: float = PATIENCE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._address = Address(url)
        self.path = self._address.name
        self.commits = 0
        self._patience = patience
        self._audience = Audience()
        self._declared = Declared()
        self._news = News(self._address, self._audience.wake, look_seconds)
        self._writers = self._crew(writers, _TRANSACTION)
        self._readers = self._crew(readers, _READ)

    async def __aenter__(self) -> Self:
        await self._writers.start()
        try:
            await self._readers.start()
        except BaseException:
            await self._writers.stop()
            raise
        await self._news.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        try:
            await self._readers.stop()
        finally:
            await self._writers.stop()
            await self._news.stop()
        self._audience.end()

    async def migrate(self, component: str, migrations: Sequence[str]) -> None:
        scripts = [script.replace(COUNTED, _COUNTED) for script in migrations]
        bring_up_to_date = migration(self.path, component, scripts)

        async def work(tx: Transaction) -> None:
            await tx.execute("select pg_advisory_xact_lock($1)", _MIGRATION_LOCK)
            await bring_up_to_date(tx)

        # A crew of one for the occasion: nobody else needs these terms.
        crew = self._crew(1, _MIGRATING)
        await crew.start()
        try:
            await crew.submit(work)
        finally:
            await crew.stop()

    def declare(self, component: str, migrations: Sequence[str]) -> None:
        self._declared.add(component, migrations)

    async def transaction(self, work: Work[T]) -> T:
        if self._declared:
            await self._declared.settle(self.migrate)
        result: T = await self._writers.submit(work)
        return result

    async def read(self, work: Work[T]) -> T:
        if self._declared:
            await self._declared.settle(self.migrate)
        result: T = await self._readers.submit(work)
        return result

    def changes(self) -> AsyncIterator[None]:
        return self._audience.join()

    def _crew(self, size: int, begin: str) -> Crew:
        def session() -> Session:
            return Session(self._address, begin, self._committed, self._patience)

        return Crew(self.path, [session() for _ in range(size)], BOUND)

    def _committed(self) -> None:
        self.commits += 1
        self._news.committed()
