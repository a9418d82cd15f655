"""WebSockets, frame by frame, on the gateway's own HTTP/1.1."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from wsproto.frame_protocol import Opcode

from tests.gateway.asgi import served


def frame(opcode: Opcode, payload: bytes, *, final: bool = True) -> bytes:
    """A client's frame, masked with zeros."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2)
    return bytes([(0x80 if final else 0) | opcode.value]) + length + b"\0\0\0\0" + payload


@asynccontextmanager
async def opened(port: int, behind: bytes = b"") -> AsyncIterator[Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    key = base64.b64encode(os.urandom(16))
    writer.write(
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n%b" % (key, behind)
    )
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        yield reader, writer
    finally:
        writer.close()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert (await receive())["type"] == "websocket.connect"
    await send({"type": "websocket.accept", "headers": [(b"x", b"y")]})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})


async def test_a_message_in_pieces_is_one_and_pings_between_them_are_answered() -> None:
    async with served(echo) as port, opened(port) as (reader, writer):
        writer.write(frame(Opcode.TEXT, b"he", final=False))
        writer.write(frame(Opcode.PING, b"?"))
        writer.write(frame(Opcode.CONTINUATION, b"llo"))
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"\x8a\x01?"
        assert await asyncio.wait_for(reader.readexactly(7), 5) == b"\x81\x05hello"


async def test_what_comes_right_behind_the_handshake_is_heard() -> None:
    async with served(echo) as port, opened(port, frame(Opcode.TEXT, b"a")) as (reader, _):
        assert await asyncio.wait_for(reader.readexactly(3), 5) == b"\x81\x01a"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (frame(Opcode.CLOSE, (1001).to_bytes(2)), 1001),
        (frame(Opcode.TEXT, b"\xff"), 1007),
        (frame(Opcode.CONTINUATION, b"x"), 1002),
        (b"\x81\x01x", 1002),  # not masked
        (frame(Opcode.TEXT, b"x" * 60_000, final=False) * 2, 1002),
        (frame(Opcode.TEXT, b"x" * 65_000, final=False), None),
    ],
    ids=["close", "no UTF-8", "nothing to continue", "unmasked", "twice begun", "not done yet"],
)
async def test_a_socket_ends_with_the_code_of_why(sent: bytes, code: int | None) -> None:
    async with served(echo) as port, opened(port) as (reader, writer):
        writer.write(sent)
        if code is None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.1)
            return
        closing = await asyncio.wait_for(reader.readexactly(4), 5)
        assert closing[0] == 0x88
        assert int.from_bytes(closing[2:4]) == code


async def test_a_message_without_end_is_closed_with_1009() -> None:
    async with served(echo, message_bytes=100_000) as port, opened(port) as (reader, writer):
        writer.write(frame(Opcode.TEXT, b"x" * 60_000, final=False))
        writer.write(frame(Opcode.CONTINUATION, b"x" * 60_000, final=False))
        closing = await asyncio.wait_for(reader.readexactly(4), 5)
    assert int.from_bytes(closing[2:4]) == 1009
