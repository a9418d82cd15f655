"""
A work is a conversation here too: it asks for a statement, and is told the answer.

    work: await tx.fetch(sql) --Ask--> whoever conducts it --Answer--> the work goes on

Whatever else a work awaits is seen as what it is and refused, as it is on SQLite: a transaction
stays open for as long as its statements take, and not for a call to somewhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

from mesh.store.database import Row, StatementFailed, StoreError
from mesh.store.postgres.values import Answer, encoded
from mesh.store.savepoint import Savepoint
from mesh.store.worker import Job

ONLY_TX = "a work may await only methods of its tx: its transaction is open meanwhile"

# Whether the code that runs is a work's.
_IN_WORK: ContextVar[bool] = ContextVar("mesh_store_in_work", default=False)


class Ask:
    """One statement, awaited by a work; ValueError for an argument that can't be sent."""

    __slots__ = ("formats", "sql", "values")

    def __init__(self, sql: str, args: tuple[object, ...] = ()) -> None:
        self.sql = sql
        self.values, self.formats = encoded(args)

    def __await__(self) -> Generator[Ask, Answer, Answer]:
        return (yield self)


class PostgresTransaction:
    """One work's view of the connection; of no use once the work has ended."""

    __slots__ = ("_ended", "_name", "_post")

    def __init__(self, name: str, post: Callable[[Ask], None]) -> None:
        self._name = name
        self._post = post
        self._ended = False

    def end(self) -> None:
        self._ended = True

    async def execute(self, sql: str, *args: object) -> int:
        return (await self._ask(sql, args)).changed

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        return (await self._ask(sql, args)).rows

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        rows = await self.fetch(sql, *args)
        return rows[0] if rows else None

    def post(self, sql: str, *args: object) -> None:
        self._post(self._ask(sql, args))

    def savepoint(self) -> Savepoint:
        return Savepoint(self)

    def _ask(self, sql: str, args: tuple[object, ...]) -> Ask:
        if self._ended:
            raise StoreError(self._name, "this transaction has ended")
        try:
            return Ask(sql, args)
        except ValueError as error:
            raise StatementFailed(self._name, str(error)) from error


def refuse_inside_work(name: str) -> None:
    """Raise when the caller is a work: works don't nest."""
    if _IN_WORK.get():
        raise StoreError(name, ONLY_TX)


class Conversation:
    """A job's work in its caller's context, from one statement to the next."""

    def __init__(self, job: Job, name: str, post: Callable[[Ask], None]) -> None:
        self._name = name
        self._tx = PostgresTransaction(name, post)
        self._context = job.context.copy()
        self._context.run(_IN_WORK.set, True)
        self._work = job.work(self._tx)
        self.result: Any = None

    def tell(self, told: Answer | StoreError | None) -> Ask | None:
        """The next statement; None when the work has ended.  At first there is nothing to tell."""
        resume: Callable[[], Any]
        if isinstance(told, StoreError):
            resume = partial(self._work.throw, told)
        else:
            resume = partial(self._work.send, told)
        try:
            asked = self._context.run(resume)
        except StopIteration as done:
            self.result = done.value
            self._tx.end()
            return None
        if not isinstance(asked, Ask):
            raise StoreError(self._name, ONLY_TX)
        return asked

    def close(self) -> None:
        """A work that is left in the middle can do nothing any more, not even a rollback."""
        self._tx.end()
        with suppress(StoreError, RuntimeError):
            self._work.close()


async def conduct(
    job: Job,
    name: str,
    answer: Callable[[Ask], Awaitable[Answer]],
    post: Callable[[Ask], None],
) -> Any:
    """See a job's work through, its statements by `answer`; its result."""
    conversation = Conversation(job, name, post)
    told: Answer | StoreError | None = None
    try:
        while ask := conversation.tell(told):
            try:
                told = await answer(ask)
            except StoreError as error:
                told = error
        return conversation.result
    finally:
        conversation.close()
