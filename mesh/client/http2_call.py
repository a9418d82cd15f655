"""
A unary call on our own HTTP/2, with the face of grpc.aio's.

    made --> submitted --> sent --> ended: replied, failed, expired or cancelled, once

It runs in no task: the connection tells it its end, and whoever awaits it is woken by that.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from mesh.client.status import LOCALLY_CANCELLED
from mesh.errors import Code, Processed
from mesh.status import GRPC_CODES
from mesh.transport import fields
from mesh.transport.connection import Connection
from mesh.transport.message import pack
from mesh.transport.stream import Stream

if TYPE_CHECKING:
    from mesh.client.http2 import UnaryUnary

LOG = logging.getLogger(__name__)


class Http2RpcError(grpc.aio.AioRpcError):
    """A failed call, with what grpcio's error does not say."""

    def __init__(self, stream: Stream, code: Code, details: str) -> None:
        super().__init__(
            GRPC_CODES[code],
            grpc.aio.Metadata(*stream.initial),
            grpc.aio.Metadata(*stream.trailing),
            details=details,
            debug_error_string=f"{code.name}: {details}",
        )
        # What the server may have done with it.
        self.processed = stream.processed
        # Whether the server's headers had arrived: "committed" in gRFC A6.
        self.headers_seen = stream.seen


def _told_before(stream: Stream) -> None:
    """Nobody is left to be told of an end."""


class UnaryUnaryCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one reply."""

    # What a call that goes well never needs stays with the class.
    _cancelled = False
    _timer: asyncio.TimerHandle | None = None
    _connection: Connection | None = None
    _reply: Any = None
    _settled = False

    def __init__(
        self,
        multi: UnaryUnary,
        request: Any,
        timeout: float | None,
        metadata: fields.Metadata | None,
        encoding: str,
        *,
        wait_for_ready: bool,
    ) -> None:
        channel = multi.channel
        self.wait_for_ready = wait_for_ready
        self._multi = multi
        self._encoding = encoding
        self._stream = Stream(self._ended)
        self._callbacks: list[Callable[[Any], None]] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._metadata = channel.writer.write(metadata) if metadata else b""
        self._deadline = None if timeout is None else monotonic() + timeout
        channel.calls.add(self)
        try:
            serializer = multi.serializer
            self._message = request if serializer is None else serializer(request)
        except Exception:
            LOG.exception("%s: the request cannot be serialized", multi.path)
            self._fail(Code.INTERNAL, "Exception serializing request!")
            return
        if len(self._message) > channel.largest_request:
            limit = f"({len(self._message)} vs. {channel.largest_request})"
            self._fail(Code.RESOURCE_EXHAUSTED, f"Sent message larger than max {limit}")
            return
        if timeout is not None:
            if not timeout > 0:  # nor is NaN
                self._fail(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
                return
            self._timer = channel.loop.call_later(timeout, self._expire)
        try:
            channel.submit(self)
        except BaseException:
            self._forget()
            raise

    # -- on the way

    def send(self, connection: Connection) -> None:
        """Put the call on the wire."""
        self._connection = connection
        head = self._multi.head(self._encoding)
        deadline = self._deadline
        if deadline is None:
            block = head.before + head.after + self._metadata
        else:
            # "send Timeout immediately after the reserved headers" - gRPC over HTTP2
            left = fields.timeout(max(deadline - monotonic(), 1e-6))
            block = head.before + left + head.after + self._metadata
        message, self._message = pack(self._message, self._encoding), b""
        connection.request(self._stream, block, message)

    def unsent(self, why: str) -> None:
        """There is no connection to send it on."""
        self._stream.processed = Processed.NO
        self._fail(Code.UNAVAILABLE, why)

    def _ended(self, stream: Stream) -> None:
        self._forget()
        self._wake()

    def _expire(self) -> None:
        if self._stream.status is None:
            if not self._stream.number:  # it waited, for a connection or for its turn on one
                self._stream.processed = Processed.NO
            self._abandon(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _abandon(self, code: Code, details: str) -> None:
        if self._connection is not None:
            self._connection.cancel(self._stream)
        self._fail(code, details)

    def _fail(self, code: Code, details: str) -> None:
        self._stream.status, self._stream.details = code, details
        self._forget()
        self._wake()

    def _forget(self) -> None:
        """Let go of what holds this call: it and its reply are gone with their last user."""
        self._multi.channel.forget(self)
        self._stream.on_end = _told_before
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
            self._waiters.clear()
        if self._callbacks:
            callbacks, self._callbacks = self._callbacks, []
            for callback in callbacks:
                self._call(callback)

    def _call(self, callback: Callable[[Any], None]) -> None:
        """What a caller's callback raises is not the connection's, nor the other calls' on it."""
        try:
            callback(self)
        except Exception:
            LOG.exception("%s: a done callback failed", self._multi.path)

    # -- the end

    def __await__(self) -> Generator[Any, None, Any]:
        if self._stream.status is None:
            yield from self._replied().__await__()
        return self._result()

    async def _replied(self) -> None:
        try:
            await self._over()
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _over(self) -> None:
        if self._stream.status is None:
            waiter = self._multi.channel.loop.create_future()
            self._waiters.append(waiter)
            await waiter

    def _result(self) -> Any:
        if not self._settled:
            self._settle()
        if self._cancelled:
            raise asyncio.CancelledError
        self._raise_for_status()
        return self._reply

    def _raise_for_status(self) -> None:
        stream = self._stream
        if stream.status:
            # Made each time: one that is kept holds this call, and is held by it, by its traceback.
            raise Http2RpcError(stream, stream.status, stream.details)

    def _settle(self) -> None:
        """Read the reply, where there is one."""
        self._settled = True
        stream, deserializer = self._stream, self._multi.deserializer
        if stream.status:
            return
        reply, stream.reply = stream.reply, None
        try:
            self._reply = reply if deserializer is None else deserializer(reply or b"")
        except Exception:
            LOG.exception("%s: the reply cannot be read", self._multi.path)
            stream.status, stream.details = Code.INTERNAL, "Exception deserializing response!"

    # -- grpc.aio.Call

    def cancel(self) -> bool:
        if self._stream.status is not None:
            return False
        self._cancelled = True
        self._abandon(Code.CANCELLED, LOCALLY_CANCELLED)
        return True

    def cancelled(self) -> bool:
        return self._stream.status is Code.CANCELLED

    def done(self) -> bool:
        return self._stream.status is not None

    def time_remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - monotonic())

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        if self._stream.status is not None:
            self._call(callback)
        else:
            self._callbacks.append(callback)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self._over()
        return grpc.aio.Metadata(*self._stream.initial)

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        await self._over()
        return grpc.aio.Metadata(*self._stream.trailing)

    async def code(self) -> grpc.StatusCode:
        await self._over()
        if not self._settled:
            self._settle()
        return GRPC_CODES[self._stream.status or Code.OK]

    async def details(self) -> str:
        await self._over()
        return self._stream.details

    async def debug_error_string(self) -> str:
        await self._over()
        code = self._stream.status or Code.OK
        return "" if code is Code.OK else f"{code.name}: {self._stream.details}"

    async def wait_for_connection(self) -> None:
        await self._over()
        if not self._settled:
            self._settle()
        self._raise_for_status()
