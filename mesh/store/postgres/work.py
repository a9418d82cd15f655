"""
A work is a conversation here too: it asks for a statement, and is told the answer.

    work: await tx.fetch(sql) --Ask--> conduct --> Session --Answer--> the work goes on

Whatever else a work awaits is seen as what it is and refused, as it is on SQLite: a transaction
stays open for as long as its statements take, and not for a call to somewhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from mesh.store.database import Row, StoreError
from mesh.store.savepoint import Savepoint
from mesh.store.worker import Job

ONLY_TX = "a work may await only methods of its tx: its transaction is open meanwhile"

# Whether the code that runs is a work's.
_IN_WORK: ContextVar[bool] = ContextVar("mesh_store_in_work", default=False)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a statement came to: its rows, and how many rows it changed."""

    rows: list[Row]
    changed: int


class Ask:
    """One statement, awaited by a work."""

    __slots__ = ("args", "sql")

    def __init__(self, sql: str, args: tuple[object, ...]) -> None:
        self.sql = sql
        self.args = args

    def __await__(self) -> Generator[Ask, Answer, Answer]:
        return (yield self)


class PostgresTransaction:
    """One work's view of the connection; of no use once the work has ended."""

    __slots__ = ("_ended", "_name")

    def __init__(self, name: str) -> None:
        self._name = name
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

    def savepoint(self) -> Savepoint:
        return Savepoint(self)

    def _ask(self, sql: str, args: tuple[object, ...]) -> Ask:
        if self._ended:
            raise StoreError(self._name, "this transaction has ended")
        return Ask(sql, args)


def refuse_inside_work(name: str) -> None:
    """Raise when the caller is a work: works don't nest."""
    if _IN_WORK.get():
        raise StoreError(name, ONLY_TX)


async def conduct(job: Job, name: str, answer: Callable[[Ask], Awaitable[Answer]]) -> Any:
    """Run the job's work in its caller's context, its statements by `answer`; its result."""
    tx = PostgresTransaction(name)
    context = job.context.copy()
    context.run(_IN_WORK.set, True)
    coroutine = job.work(tx)
    step: Callable[[], Any] = partial(coroutine.send, None)
    try:
        while True:
            try:
                asked = context.run(step)
            except StopIteration as done:
                return done.value
            if not isinstance(asked, Ask):
                raise StoreError(name, ONLY_TX)
            try:
                step = partial(coroutine.send, await answer(asked))
            except StoreError as error:
                step = partial(coroutine.throw, error)
    finally:
        tx.end()
        # A work that was left in the middle can do nothing any more, not even a rollback.
        with suppress(StoreError, RuntimeError):
            coroutine.close()
