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
from typing import NoReturn

from mesh.store.database import StoreError
from mesh.store.postgres.address import Address
from mesh.store.postgres.values import Answer
from mesh.store.postgres.wire import Wire
from mesh.store.postgres.work import Ask

logger = logging.getLogger("mesh.store")

LOOK_SECONDS = 1.0
# Between two tries to have the connection back, in seconds.
_AWAY_SECONDS = 0.5
# Between two NOTIFYs, in seconds: what is committed meanwhile is told of by one.
_PAUSE_SECONDS = 0.02
_CHANNEL = "mesh_commit"


class News:
    """Runs from start() to stop(); `announce` is called on the loop."""

    def __init__(self, address: Address, announce: Callable[[], None], look: float) -> None:
        self._address = address
        self._announce = announce
        self._look_seconds = look
        self._ours = asyncio.Event()
        self._seen = ""
        self._process = 0

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
                wire = Wire(self._address.name, connection, self._heard)
            except StoreError as error:
                logger.warning("no news of %s: %s", error.path, error.cause)
                await asyncio.sleep(_AWAY_SECONDS)
                continue
            try:
                await self._follow(wire)
            except StoreError as error:
                logger.info("news stopped: %s", error)
                await asyncio.sleep(_AWAY_SECONDS)
            finally:
                wire.close()

    async def _follow(self, wire: Wire) -> NoReturn:
        self._process = wire.process
        await _said(wire, f"listen {_CHANNEL}")
        self._announce()  # who knows what was committed before
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._look_seconds):
                    await self._ours.wait()
            if self._ours.is_set():
                self._ours.clear()
                await _said(wire, f"notify {_CHANNEL}")
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            # Another text after each transaction that has written, of any database of the server.
            seen = (await _said(wire, "select pg_current_snapshot()::text")).rows[0][0]
            if seen != self._seen:
                self._seen = seen
                self._announce()

    def _heard(self, sender: int) -> None:
        if sender != self._process:
            self._announce()


async def _said(wire: Wire, sql: str) -> Answer:
    (outcome,) = await wire.exchange([Ask(sql)])
    if isinstance(outcome, Answer):
        return outcome
    assert outcome is not None, "nothing was left out"
    raise outcome
