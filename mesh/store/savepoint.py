"""A savepoint: part of a work that stands or falls by itself."""

from typing import Protocol


class Executes(Protocol):
    """What a savepoint needs of its transaction."""

    async def execute(self, sql: str, *args: object) -> int: ...


class Savepoint:
    """Part of a work: what is done inside stands or falls together."""

    __slots__ = ("_tx",)

    def __init__(self, tx: Executes) -> None:
        self._tx = tx

    async def __aenter__(self) -> None:
        await self._tx.execute("savepoint part")

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            await self._tx.execute("rollback to part")
        await self._tx.execute("release part")
