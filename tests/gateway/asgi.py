"""An ASGI application of one function, served by the gateway's own HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from gateway.http1.server import serve_http
from gateway.listen import listen

GET = b"GET /a?b=1 HTTP/1.1\r\nHost: x\r\n\r\n"


class App:
    """An ASGI application of one function."""

    def __init__(self, answer: Callable[[Any, Any, Any], Any]) -> None:
        self.stopping, self.silent = asyncio.Event(), asyncio.Event()
        self.silent.set()
        self._answer = answer

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._answer(scope, receive, send)


@asynccontextmanager
async def served(answer: Callable[[Any, Any, Any], Any], **limits: Any) -> AsyncIterator[int]:
    listening = listen("127.0.0.1", 0)
    async with serve_http(App(answer), listening, **limits):
        yield listening.getsockname()[1]
