"""
A server that answers every call with bytes of a script, over a real socket, to any gRPC client.

    async with scripted(says) as server: ... server.address, server.requests

It speaks just enough HTTP/2 to be talked to: SETTINGS, acknowledgements, PING; `says(number)` is
sent when a request is whole, on the stream of that number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from hpack import Decoder

from mesh.transport import frames
from tests.transport.peer import split
from tests.transport.saying import ping, settings

Says = Callable[[int], bytes]


class Scripted:
    """What came, of all connections."""

    def __init__(self, says: Says, greeting: bytes) -> None:
        self.says = says
        self.greeting = greeting
        self.address = ""
        self.connections = self.pings = 0
        # The header fields of the requests, and their bodies.
        self.requests: list[list[tuple[str, str]]] = []
        self.bodies: list[bytes] = []
        self.goaways: list[bytes] = []
        self.resets: list[tuple[int, int]] = []
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await self._talk(reader, writer)
        writer.close()
        del self._serving[task]

    @property
    def open(self) -> int:
        """How many connections stand."""
        return len(self._serving)

    def first(self, said: bytes) -> None:
        """Say something on the oldest connection."""
        next(iter(self._serving.values())).write(said)

    async def close(self) -> None:
        for writer in self._serving.values():
            writer.transport.abort()
        await asyncio.gather(*self._serving)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(len(frames.PREFACE))
        writer.write(self.greeting)
        decoder, bodies, pending = Decoder(), {}, b""
        while chunk := await reader.read(1 << 16):
            pending += chunk
            for kind, flags, number, payload in split(pending):
                pending = pending[9 + len(payload) :]
                if kind == frames.SETTINGS and not flags & frames.ACK:
                    writer.write(frames.frame(frames.SETTINGS, frames.ACK, 0))
                elif kind == frames.PING and not flags & frames.ACK:
                    self.pings += 1
                    writer.write(ping(payload, ack=True))
                elif kind == frames.HEADERS:
                    found = decoder.decode(frames.content(flags, payload))
                    self.requests.append([(str(name), str(value)) for name, value in found])
                    bodies[number] = b""
                elif kind == frames.DATA:
                    bodies[number] += frames.content(flags & frames.PADDED, payload)
                elif kind == frames.GOAWAY:
                    self.goaways.append(payload)
                elif kind == frames.RST_STREAM:
                    self.resets.append((number, int.from_bytes(payload)))
                if kind in (frames.DATA, frames.HEADERS) and flags & frames.END_STREAM:
                    self.bodies.append(bodies.pop(number))
                    writer.write(self.says(number))


@asynccontextmanager
async def scripted(says: Says, greeting: bytes = settings()) -> AsyncIterator[Scripted]:
    """The server, until the block ends."""
    script = Scripted(says, greeting)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        await script.close()
