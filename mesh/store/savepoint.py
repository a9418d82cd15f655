"""A savepoint: part of a work that stands or falls by itself."""

from typing import Protocol

from mesh.store.database import StatementFailed


class Executes(Protocol):
    """What a savepoint needs of its transaction."""

    async def execute(self, sql: str, *args: object) -> int: ...

    def post(self, sql: str, *args: object) -> None: ...


class Savepoint:
    """Part of a work: what is done inside stands or falls together."""

    __slots__ = ("_tx",)

    def __init__(self, tx: Executes) -> None:
        self._tx = tx

    async def __aenter__(self) -> None:
        self._tx.post("savepoint part")

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                await self._tx.execute("release part")
            except StatementFailed:
                await self._undo()  # of something that was posted inside
                raise
        else:
            await self._undo()

    async def _undo(self) -> None:
        try:
            await self._tx.execute("rollback to part")
        except StatementFailed:
            # It went out behind what was posted inside, and was left out when that failed.
            await self._tx.execute("rollback to part")
        self._tx.post("release part")
