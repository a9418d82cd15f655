"""
A closed loop of HTTP/1.1 requests: some connections, each asks again when it was answered.

Cheap enough to share a core with the backend (about 15 us a request on uvloop), bounded in time,
and it looks at every answer: one that is not 200 or not the expected body is an error.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, cast

END = b"\r\n\r\n"
ANSWER_SECONDS = 10.0


class WrongAnswer(Exception):
    """A gateway said something else than was expected."""


@dataclass(slots=True)
class Window:
    """What one stretch of load found."""

    seconds: float = 0.0
    # Seconds from a request's first byte to its answer's last, one for each request.
    latencies: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds


class _Caller(asyncio.Protocol):
    """One connection that asks, and asks again, until `ends`."""

    def __init__(self, request: bytes, expected: bytes, window: Window) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ends = 0.0
        self._request, self._expected, self._window = request, expected, window
        self._buffer = b""
        self._asked = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        self._asked = perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        body = _body(data)
        if body is None:
            self._buffer = data
            return
        self._buffer = b""
        now = perf_counter()
        if body != self._expected or not data.startswith(b"HTTP/1.1 200 "):
            self._end(WrongAnswer(data[:2000].decode("latin-1")))
            return
        self._window.latencies.append(now - self._asked)
        if now < self.ends:
            self.ask()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc or ConnectionResetError("the connection was closed"))

    def _end(self, error: Exception | None = None) -> None:
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)
        self._transport.close()


def _body(answer: bytes) -> bytes | None:
    """The body, once it is whole."""
    head, found, body = answer.partition(END)
    if not found:
        return None
    _, _, rest = head.lower().partition(b"\r\ncontent-length:")
    return body if rest and len(body) >= int(rest.partition(b"\r\n")[0]) else None


async def load(
    port: int, request: bytes, expected: bytes, connections: int, seconds: float
) -> Window:
    """Keep so many requests in flight for so long; WrongAnswer or OSError when that fails."""
    loop = asyncio.get_running_loop()
    window = Window()
    callers: list[_Caller] = []
    for _ in range(connections):
        _, caller = await loop.create_connection(
            lambda: _Caller(request, expected, window), "127.0.0.1", port
        )
        callers.append(caller)
    began = perf_counter()
    for caller in callers:
        caller.ends = began + seconds
        caller.ask()
    async with asyncio.timeout(seconds + ANSWER_SECONDS):
        await asyncio.gather(*(caller.done for caller in callers))
    window.seconds = perf_counter() - began
    return window


async def once(port: int, request: bytes, expected: Any) -> bytes:
    """The body of one answer, whose JSON is as expected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            writer.write(request)
            data = b""
            while (body := _body(data)) is None:
                data += (piece := await reader.read(65536))
                if not piece:
                    raise WrongAnswer(f"closed after {data!r}")
    finally:
        writer.close()
    if not data.startswith(b"HTTP/1.1 200 ") or json.loads(body) != expected:
        raise WrongAnswer(data.decode("latin-1"))
    return body
