"""Commands with effects in a database, served under idempotency keys, and what became of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from mesh.errors import Code, StatusError
from mesh.server import Server
from mesh.server.idempotency import Idempotency, in_one_transaction, keep
from mesh.status import from_error
from mesh.store import Database
from mesh.store.migrate import COUNTED
from tests.server.echo import Echo, EchoStub, Text

REUSED = "IDEMPOTENCY_KEY_REUSED"
IN_PROGRESS = "IDEMPOTENCY_IN_PROGRESS"

EFFECT = f"create table effect (place {COUNTED}, text text not null)"


async def effects(database: Database) -> list[str]:
    rows = await database.read(lambda tx: tx.fetch("select text from effect order by place"))
    return [row["text"] for row in rows]


class Commands(Echo):
    """Every Say leaves one effect, numbered, and answers with its number."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.runs = 0
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.release.set()
        self.error: Exception | None = None

    async def Say(self, request: Any, context: Any) -> Any:
        self.runs += 1
        run = self.runs
        self.begun.set()
        await self.release.wait()
        if self.error is not None:
            raise self.error
        reply = Text(text=request.text, number=run)

        async def work(tx: Any) -> None:
            await tx.execute("insert into effect (text) values ($1)", request.text)

        await self.database.transaction(work)
        return reply


class Kept(Commands):
    """The same, with the reply stored in the effect's own transaction, and a fault after it."""

    fails_after = False
    final = True

    async def Say(self, request: Any, context: Any) -> Any:
        self.runs += 1
        reply = Text(text=request.text, number=self.runs)

        async def work(tx: Any) -> None:
            await tx.execute("insert into effect (text) values ($1)", request.text)
            await keep(tx, reply, final=self.final)

        await self.database.transaction(work)
        self.begun.set()
        await self.release.wait()
        if self.fails_after:
            raise StatusError(Code.UNAVAILABLE, "after the effect", reason="LATER", domain="test")
        return reply


class KeptAtOnce(Kept):
    """The same, with nothing written before that transaction."""

    @in_one_transaction
    async def Say(self, request: Any, context: Any) -> Any:
        return await super().Say(request, context)


@asynccontextmanager
async def serving(servicer: Commands, **options: Any) -> AsyncIterator[EchoStub]:
    async with (
        Idempotency(servicer.database, **options) as idempotency,
        Server("echo", [servicer], interceptors=[idempotency]).serving() as address,
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield EchoStub(channel)


def key(value: str) -> tuple[tuple[str, str], ...]:
    return (("idempotency-key", value),)


async def answer(call: Any) -> tuple[str, bool]:
    """What was answered, and whether it was said to be a replay."""
    try:
        reply = await call
        said = f"{reply.text} {reply.number}"
    except grpc.aio.AioRpcError as error:
        said = from_error(error).reason
    return said, ("idempotent-replayed", "true") in tuple(await call.initial_metadata())
