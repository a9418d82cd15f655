"""
News: tells this process's listeners of commits, its own and those of any other process.

    our commit ----> listeners here, at once
               \\--> NOTIFY, once for many commits ----> LISTEN in the other processes
    a look every LOOK_SECONDS: has anybody written since? (a NOTIFY may get lost with its sender)

NOTIFY inside the transactions themselves would have every commit of the server wait for the one
before; so it has a connection of its own, and comes a moment after the commit.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from mesh.store.database import StoreError
from mesh.store.postgres.address import Address
from mesh.store.postgres.failures import OUTSIDE, translation

logger = logging.getLogger("mesh.store")

LOOK_SECONDS = 1.0
# Between two tries to have the connection back, in seconds.
_AWAY_SECONDS = 0.5
_CHANNEL = "mesh_commit"


class News:
    """Runs from start() to stop(); `announce` is called on the loop."""

    def __init__(self, address: Address, announce: Callable[[], None], look: float) -> None:
        self._address = address
        self._announce = announce
        self._look_seconds = look
        self._ours = asyncio.Event()
        self._seen = ""

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"news of {self._address.name}")

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def committed(self) -> None:
        """This process has committed something."""
        self._announce()
        self._ours.set()

    async def _run(self) -> None:
        while True:
            try:
                # Nothing hangs on a NOTIFY: it need not wait for the disk.
                connection = await self._address.connect(synchronous_commit="off")
            except StoreError as error:
                logger.warning("no news of %s: %s", error.path, error.cause)
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            try:
                await connection.add_listener(_CHANNEL, self._heard)
                self._announce()  # who knows what was committed before
                while True:
                    await self._tell_or_look(connection)
            except OUTSIDE as error:
                logger.info("news stopped: %s", translation(self._address.name, error))
                await asyncio.sleep(_AWAY_SECONDS)
            finally:
                connection.terminate()

    async def _tell_or_look(self, connection: Any) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._look_seconds):
                await self._ours.wait()
        if self._ours.is_set():
            self._ours.clear()
            await connection.execute(f"notify {_CHANNEL}")
            return
        # Another text after each transaction that has written, of any database of the server.
        seen = await connection.fetchval("select pg_current_snapshot()::text")
        if seen != self._seen:
            self._seen = seen
            self._announce()

    def _heard(self, connection: Any, sender: int, channel: str, payload: object) -> None:
        if sender != connection.get_server_pid():
            self._announce()
