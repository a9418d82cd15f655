"""The old shop put together: a database of its own, HTTP, and no registry: it is where it is."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import web

from mesh.store import Database, connect, migrations
from services.access import OPEN, Access
from services.legacy import store
from services.legacy.domain import FIRST_ARTICLES, Article
from services.legacy.shop import OldShop
from services.process import Process

# How long a stop waits for the requests being answered.
DRAIN_SECONDS = 5.0


@asynccontextmanager
async def legacy(
    database: Database,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    first: Sequence[Article] = FIRST_ARTICLES,
    access: Access = OPEN,
) -> AsyncIterator[str]:
    """The address it is served at, on an entered database; *first* goes into an empty one."""
    await database.migrate("legacy", migrations("services.legacy"))
    await database.transaction(partial(store.stock_once, articles=first))
    application = OldShop(database, access).application()
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=DRAIN_SECONDS)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield f"{host}:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def serve(process: Process) -> None:
    """Serve until a signal says otherwise."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with (
        connect(process.database) as database,
        legacy(database, process.host, process.port, access=process.access) as address,
    ):
        process.ready(address)
        await stop.wait()
