"""PostgresDatabase: the port of mesh.store on a PostgreSQL server; enter it before use."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Self

from mesh.store.changes import Audience
from mesh.store.database import T, Work
from mesh.store.migrate import COUNTED, Declared, migration
from mesh.store.postgres.address import Address
from mesh.store.postgres.crew import Crew
from mesh.store.postgres.link import Link
from mesh.store.postgres.news import LOOK_SECONDS, News
from mesh.store.postgres.reader import Reader
from mesh.store.postgres.writer import Writer

# Connections of one process that read; one more writes, and one brings the news.
READERS = 3
# Works that may wait for either; further callers wait outside.
BOUND = 1024
# How long the writers' lock or an absent server is waited for, in seconds, before StoreBusy.
PATIENCE_SECONDS = 10.0

_COUNTED = "bigint generated always as identity primary key"


class PostgresDatabase:
    """The database at one URL."""

    def __init__(
        self,
        url: str,
        *,
        readers: int = READERS,
        patience: float = PATIENCE_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        address = Address(url)
        self.path = address.name
        self.commits = 0
        self._audience = Audience()
        self._declared = Declared()
        self._news = News(address, self._audience.wake, look_seconds)
        writing = Link(address, lock_timeout=f"{patience * 1000:.0f}ms")
        self._writer = Crew(self.path, [Writer(writing, patience, self._committed)], BOUND)
        links = [Link(address, default_transaction_read_only="on") for _ in range(readers)]
        self._readers = Crew(self.path, [Reader(link, patience) for link in links], BOUND)

    async def __aenter__(self) -> Self:
        await self._writer.start()
        try:
            await self._readers.start()
        except BaseException:
            await self._writer.stop()
            raise
        await self._news.start()
        return self

    async def __aexit__(self, *reason: object) -> None:
        try:
            await self._readers.stop()
        finally:
            await self._writer.stop()
            await self._news.stop()
        self._audience.end()

    async def migrate(self, component: str, migrations: Sequence[str]) -> None:
        scripts = [script.replace(COUNTED, _COUNTED) for script in migrations]
        await self._writer.submit(migration(self.path, component, scripts))

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
        result: T = await self._readers.submit(work)
        return result

    def changes(self) -> AsyncIterator[None]:
        return self._audience.join()

    def _committed(self) -> None:
        self.commits += 1
        self._news.committed()
