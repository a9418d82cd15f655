"""
Database: the small port behind which services keep what must survive.

    await database.migrate("orders", ["create table ..."])
    order = await database.transaction(work)     # async def work(tx: Transaction) -> Order
    async for _ in database.changes(): ...       # now, and after every commit by any process

Three rules.  A `work` awaits only methods of its `tx`: it may run on a thread where no event loop
is.  A work that raises leaves no trace, whatever else shared its commit.  Works that write run one
after another, whichever process they are of; one that a lost connection undid is run again, so
what a work does beside its `tx` has to bear that.

* MeshError
  + StoreError          the database said no; .path names it, .cause says why
    - StoreBusy         it is away, or others were in the way for too long: try again later
    - StatementFailed   the statement is at fault, not the database: again would be the same again
      . Violation       a constraint of the schema refused it
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, Self, TypeVar

from mesh.errors import Code, MeshError

T = TypeVar("T")


class Row(Protocol):
    """One row of a result, by column name or by position."""

    def __getitem__(self, key: Any, /) -> Any: ...


class Transaction(Protocol):
    """What a work may await.  Placeholders are $1, $2, ... in every dialect."""

    async def execute(self, sql: str, *args: object) -> int:
        """Run one statement; answers how many rows it changed."""

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        """Run one statement; answers every row."""

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        """Run one statement; answers its first row, or None."""

    def post(self, sql: str, *args: object) -> None:
        """
        Run one statement of which nobody wants to know how many rows it changed.

        It goes out with the next statement that is awaited, at the latest with the commit; that it
        failed may be said here, or there, or by the transaction.
        """

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """
        Undo what is done inside when an exception leaves it; the rest of the work stands.

        A statement that fails outside of any savepoint takes the whole work with it.
        """


Work = Callable[[Transaction], Awaitable[T]]


class Database(Protocol):
    """A database of one service, shared by that service's instances."""

    # Commits of this process that have written something.
    commits: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(self, *reason: object) -> None: ...

    async def migrate(self, component: str, migrations: Sequence[str]) -> None:
        """Bring `component`'s tables to len(migrations); each migration is applied once, ever."""

    def declare(self, component: str, migrations: Sequence[str]) -> None:
        """Have `component` migrated before the next transaction: for who is built, not entered."""

    async def transaction(self, work: Work[T]) -> T:
        """
        Run `work` and answer its result once it is durable.

        A caller cancelled before its work began never runs it; later, the work ends as if nothing
        had happened: it may well be committed, and the caller doesn't learn it.
        """

    async def read(self, work: Work[T]) -> T:
        """Run `work` on one consistent, read-only snapshot that holds every commit made before."""

    def changes(self) -> AsyncIterator[None]:
        """One item at once, then one after each commit by any process, or after several."""


class StoreError(MeshError):
    """The database said no; `path` says which, `cause` why."""

    code = Code.INTERNAL
    reason = "STORE_FAILED"

    def __init__(self, path: str, cause: str) -> None:
        super().__init__(f"{path}: {cause}")
        self.path = path
        self.cause = cause


class StoreBusy(StoreError):
    """It is away, or others were in the way for too long; nothing was written: try again later."""

    code = Code.UNAVAILABLE
    reason = "STORE_BUSY"


class StatementFailed(StoreError):
    """The statement is at fault, not the database: asked again it would fail again."""

    reason = "STORE_STATEMENT"


class Violation(StatementFailed):
    """A constraint of the schema (unique, not null, check, foreign key) refused the statement."""

    reason = "STORE_CONSTRAINT"
