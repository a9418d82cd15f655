"""
What a caller streams out, kept until no attempt can need it again.

    caller -- write --> kept -- feed --> attempt 1  (failed)
                             \\- feed --> attempt 2  (committed) <-- write, directly from here on

"Not retryable once response headers arrived or the replay buffer overflowed" (gRFC A6): both
commit the call; what was kept is then dropped, and messages pass straight through.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from mesh.call import Call

KEPT_BYTES = 256 * 1024


def size_of(message: Any) -> int:
    """Bytes on the wire, of a message serialized or (under somebody else's channel) not yet."""
    return len(message) if isinstance(message, bytes) else int(message.ByteSize())


async def _put(inner: Any, message: Any) -> bool:
    """
    Write one message to an attempt; False when the attempt has ended, and its status says how.

    grpc.aio makes INTERNAL, "Internal error from Core", of a write that meets the server's status
    on its way, and sets it over that status: below its `write` nothing does.
    """
    below = getattr(inner, "_cython_call", None)
    if below is None or not isinstance(message, bytes) or inner.done():
        await inner.write(message)  # under somebody else's channel, or to be told that it is over
        return True
    try:
        await below.send_serialized_message(message)
    except grpc.aio.InternalError:
        return False
    return True


class Pulse:
    """Wakes everyone who waits, each time something changed."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def beat(self) -> None:
        event, self._event = self._event, asyncio.Event()
        event.set()

    async def wait(self) -> None:
        await self._event.wait()


class Requests:
    """The request stream of one logical call; `closed` once the caller said that it is done."""

    def __init__(self, call: Call) -> None:
        self.closed = False
        self.ended = False
        self.connected = False
        self._call = call
        self._kept: list[Any] = []
        self._kept_bytes = 0
        self._written = 0
        self._passed = 0
        self._direct: Any = None
        self._pulse = Pulse()

    async def write(self, message: Any) -> bool:
        """Send one message; returns when an attempt took it, False when the call ended instead."""
        if self._direct is not None:
            return await _put(self._direct, message)
        self._kept.append(message)
        self._written += 1
        place = self._written
        self._kept_bytes += size_of(message)
        if self._kept_bytes > KEPT_BYTES:
            self._call.committed = True
        self._pulse.beat()
        while self._passed < place and not self.ended:
            await self._pulse.wait()
        return self._passed >= place

    async def close(self) -> None:
        """Half-close: nothing more will be written."""
        if not self.closed:
            self.closed = True
            if self._direct is not None:
                await self._direct.done_writing()
            self._pulse.beat()

    def end(self) -> None:
        """The call is over: whoever still waits to write need not."""
        self.ended = True
        self._kept.clear()
        self._pulse.beat()

    def commit(self) -> None:
        """No attempt will follow the present one."""
        self._pulse.beat()

    async def until_connected(self) -> None:
        """Wait until an attempt's metadata was sent, or the call ended."""
        while not self.connected and not self.ended:
            await self._pulse.wait()

    async def feed(self, inner: Any, call: Call) -> None:
        """Send what was kept and what comes to one attempt, until it is written to directly."""
        sent = 0
        try:
            await inner.wait_for_connection()
            self.connected = True
            self._pulse.beat()
            while not self.ended:
                if sent < len(self._kept):
                    if not await _put(inner, self._kept[sent]):
                        return
                    sent += 1
                    if sent > self._passed:
                        self._passed = sent
                        self._pulse.beat()
                elif self.closed:
                    await inner.done_writing()
                    return
                elif call.committed or self._call.committed:
                    call.committed, self._direct = True, inner
                    self._kept.clear()
                    return
                else:
                    await self._pulse.wait()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the attempt ended; its status says how
