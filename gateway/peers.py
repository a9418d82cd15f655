"""
Workers tell each other what they know: a door each, in the directory that they share.

    async with peers.listening(): ...       others may ask this worker
    await peers.ask()                       by worker, what each of the others tells; None: nothing

A door is a Unix socket in a directory of this user's alone; whoever connects is told everything, as
JSON, and the connection closed.  Nobody waits longer than ASK_SECONDS for another.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from gateway.together import Together

ASK_SECONDS = 2.0
MOST_BYTES = 64 * 1024 * 1024


class Peers:
    """This worker among the others; `tell` is what it knows, as JSON has it."""

    def __init__(self, together: Together, tell: Callable[[], Any]) -> None:
        self._together = together
        self._tell = tell

    @property
    def own(self) -> str:
        """This worker's name; "" where there are no others."""
        return str(self._together.worker) if self._together.workers > 1 else ""

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Answer the others inside the block."""
        if self._together.directory is None:
            yield
            return
        door = _door(self._together.directory, self._together.worker)
        door.unlink(missing_ok=True)  # a predecessor's
        server = await asyncio.start_unix_server(self._answer, door)
        try:
            yield
        finally:
            server.close()
            await server.wait_closed()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(msgspec.json.encode(self._tell()))
            await asyncio.wait_for(writer.drain(), ASK_SECONDS)
        except (OSError, TimeoutError):
            pass  # whoever asked has left
        finally:
            writer.close()

    async def ask(self) -> dict[str, Any]:
        """What each of the others tells, by its name; None of one that does not answer."""
        together = self._together
        if together.directory is None:
            return {}
        others = [slot for slot in range(together.workers) if slot != together.worker]
        told = await asyncio.gather(*(_ask(_door(together.directory, slot)) for slot in others))
        return {str(slot): found for slot, found in zip(others, told, strict=True)}


def _door(directory: Path, slot: int) -> Path:
    return directory / f"worker-{slot}"


async def _ask(door: Path) -> Any:
    try:
        async with asyncio.timeout(ASK_SECONDS):
            reader, writer = await asyncio.open_unix_connection(door, limit=MOST_BYTES)
            try:
                return msgspec.json.decode(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        return None
