"""
Streams of replies: the flow opens the stream, and opens it anew until the first answer commits it.

    handle (the caller's)  ---->  Stream (the flow's)  ---->  grpc's own call, once committed

Messages pass the flow by; it resumes at the final status.  The caller's handle is apart from the
conversation so that a stream nobody holds any more is cancelled: what grpc means to do, but its
channel keeps every call alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import grpc.aio

from mesh.call import Call
from mesh.client import status, wire
from mesh.client.calls import DoneCallback, Outcome
from mesh.client.pool import Link
from mesh.client.requests import Pulse, Requests

if TYPE_CHECKING:
    from mesh.client.wire import Method

MIXED = "The iterator and read/write APIs may not be mixed on a single RPC."
# A failure without headers shows as empty headers until its status follows, at once.
TRAILERS_ONLY_SECONDS = 0.005


class Stream(Outcome):
    """One call with streamed replies, as the flow sees it."""

    def __init__(
        self, multi: Method, call: Call, options: dict[str, Any], requests: Requests | None
    ) -> None:
        super().__init__(multi, call, options)
        self.requests = requests
        self._pulse = Pulse()
        self._link: Link | None = None
        self._messages: AsyncIterator[Any] | None = None
        self._first: asyncio.Future[Any] | None = None
        self._task = multi.channel.loop.create_task(self._converse())

    @property
    def finished(self) -> bool:
        """Whether nothing is left to read."""
        return self._done and self._first is None

    def cancel(self) -> bool:
        if self._inner is not None and not self._done:
            self._inner.cancel()
        return super().cancel()

    async def initial_metadata(self) -> grpc.aio.Metadata:
        await self.opened()
        if self._inner is None:
            return await super().initial_metadata()
        return cast("grpc.aio.Metadata", await self._inner.initial_metadata())

    async def opened(self) -> None:
        """Wait until the stream is committed to one attempt, or is over."""
        while self._inner is None and not self._done:
            await self._pulse.wait()

    async def next(self) -> Any:
        """The next message; StopAsyncIteration after the last, or the call's error."""
        try:
            await self.opened()
            first, self._first = self._first, None
            if first is not None:
                return await first
            if self._messages is not None:
                return await anext(self._messages)
        except (grpc.aio.AioRpcError, StopAsyncIteration):
            pass  # the flow says the last word
        except asyncio.CancelledError:
            if wire.recalled(self._link) is None:
                self.cancel()
                raise
        await self._ended()
        self.raise_for_status()
        raise StopAsyncIteration

    def _settle(self, reply: Any = None, error: BaseException | None = None) -> None:
        super()._settle(reply, error)
        self._pulse.beat()
        if self.requests is not None:
            self.requests.end()

    async def _attempt(self, call: Call) -> Any:
        request = call.request if self.requests is None else None
        inner, link = await self._multi.begin(call, request, self._options)
        feeding = None
        if self.requests is not None:
            feeding = asyncio.ensure_future(self.requests.feed(inner, call))
        try:
            await self._commit(link, call, inner)
            code = await inner.code()
        except asyncio.CancelledError:
            inner.cancel()
            failure = wire.recalled(link)
            if failure is None:
                raise
            raise failure from None
        finally:
            if feeding is not None:
                feeding.cancel()
        if code is grpc.StatusCode.OK:
            return inner
        if code is grpc.StatusCode.CANCELLED and (failure := wire.recalled(link)):
            raise failure
        raise status.failed(await _error_of(inner, code))

    async def _commit(self, link: Link | None, call: Call, inner: Any) -> None:
        """Wait for the first header or message; CallFailed when the attempt ends before."""
        headers = await inner.initial_metadata()
        messages = aiter(inner)
        first = asyncio.ensure_future(anext(messages))
        first.add_done_callback(_seen)
        if not headers:
            await asyncio.wait([first], timeout=TRAILERS_ONLY_SECONDS)
            if first.done() and not first.cancelled():
                error = first.exception()
                if isinstance(error, grpc.aio.AioRpcError):
                    raise status.failed(error)
        call.committed = self._call.committed = True
        self._link, self._messages, self._first, self._inner = link, messages, first, inner
        self._pulse.beat()
        if self.requests is not None:
            self.requests.commit()


def _seen(first: asyncio.Future[Any]) -> None:
    """What was read ahead for a caller who never asks may fail without anyone's interest."""
    if not first.cancelled():
        first.exception()


async def _error_of(inner: Any, code: grpc.StatusCode) -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(
        code,
        await inner.initial_metadata(),
        await inner.trailing_metadata(),
        await inner.details(),
        await inner.debug_error_string(),
    )


class Handle(grpc.aio.Call):
    """What the caller holds of a stream; forgotten, it cancels the call."""

    def __init__(self, stream: Stream, loop: asyncio.AbstractEventLoop) -> None:
        self._stream = stream
        self._loop = loop
        self._style: str | None = None
        self._iterator: AsyncIterator[Any] | None = None

    def __del__(self) -> None:
        if not self._stream.done() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stream.cancel)

    def cancel(self) -> bool:
        return self._stream.cancel()

    def cancelled(self) -> bool:
        return self._stream.cancelled()

    def done(self) -> bool:
        return self._stream.done()

    def time_remaining(self) -> float | None:
        return self._stream.time_remaining()

    def add_done_callback(self, callback: DoneCallback) -> None:
        self._stream.add_done_callback(lambda _: callback(self))

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return await self._stream.initial_metadata()

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        return await self._stream.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        return await self._stream.code()

    async def details(self) -> str:
        return await self._stream.details()

    async def debug_error_string(self) -> str:
        return await self._stream.debug_error_string()

    async def wait_for_connection(self) -> None:
        if self._stream.requests is None:
            await self._stream.opened()
        else:
            await self._stream.requests.until_connected()
        if self._stream.done():
            self._stream.raise_for_status()

    def __aiter__(self) -> AsyncIterator[Any]:
        self._reads("iterator")
        if self._iterator is None:
            self._iterator = self._iterate()
        return self._iterator

    async def read(self) -> Any:
        if self._stream.finished:
            self._stream.raise_for_status()
            return grpc.aio.EOF
        self._reads("reader")
        try:
            return await self._stream.next()
        except StopAsyncIteration:
            return grpc.aio.EOF

    async def _iterate(self) -> AsyncIterator[Any]:
        while True:
            try:
                message = await self._stream.next()
            except StopAsyncIteration:
                return
            yield message

    def _reads(self, style: str) -> None:
        if self._style not in (None, style):
            raise grpc.aio.UsageError(MIXED)
        self._style = style


class UnaryStreamCall(Handle, grpc.aio.UnaryStreamCall[Any, Any]):
    """One request, a stream of replies."""

    def __init__(self, multi: Method, call: Call, options: dict[str, Any]) -> None:
        super().__init__(Stream(multi, call, options, None), multi.channel.loop)
