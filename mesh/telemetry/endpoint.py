"""
Figures at http://HOST:PORT/metrics, for a process that has no HTTP of its own.

    async with exposing(figures, "127.0.0.1", 9464) as url: ...
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from mesh.telemetry.figures import Figures
from mesh.telemetry.prometheus import exposition

PATH = "/metrics"


@asynccontextmanager
async def exposing(figures: Figures, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """Show the figures while the block runs; the URL.  OSError when the address is taken."""

    async def show(request: web.Request) -> web.Response:
        content_type, body = exposition({"": figures}, request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    application = web.Application()
    application.router.add_get(PATH, show)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{runner.addresses[0][1]}{PATH}"
    finally:
        await runner.cleanup()
