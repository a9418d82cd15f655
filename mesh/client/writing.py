"""
The two kinds of calls that stream requests: what the caller writes, or an iterator does for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterable, Generator, Iterable
from typing import TYPE_CHECKING, Any

import grpc.aio

from mesh.call import Call
from mesh.client import status, wire
from mesh.client.calls import Outcome
from mesh.client.requests import Requests
from mesh.client.streams import MIXED, Handle, Stream

if TYPE_CHECKING:
    from mesh.client.wire import Method

LOG = logging.getLogger(__name__)
FINISHED = "RPC already finished."
HALF_CLOSED = 'RPC is half closed after calling "done_writing".'

Source = AsyncIterable[Any] | Iterable[Any]


class Writing(grpc.aio.Call):
    """The writing side of a call; `_talk` is the conversation whose requests these are."""

    _requests: Requests
    _talk: Outcome
    _serializer: Any
    _poller: asyncio.Task[None] | None = None

    def _write_with(
        self, talk: Outcome, requests: Requests, multi: Method, source: Source | None
    ) -> None:
        self._talk, self._requests, self._serializer = talk, requests, multi.serializer
        if source is not None:
            self._poller = multi.channel.loop.create_task(self._consume(source))

    async def write(self, request: Any) -> None:
        self._writes()
        await self._write(request)

    async def done_writing(self) -> None:
        self._writes()
        if not self._talk.done():
            await self._requests.close()

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        if self._poller is not None:
            self._poller.cancel()
        return True

    @property
    def _done_writing_flag(self) -> bool:
        # grpc.aio asks this of the call that an interceptor returned.
        return self._requests.closed

    def _writes(self) -> None:
        if self._poller is not None:
            raise grpc.aio.UsageError(MIXED)

    async def _write(self, request: Any) -> None:
        if self._talk.done():
            raise asyncio.InvalidStateError(FINISHED)
        if self._requests.closed:
            raise asyncio.InvalidStateError(HALF_CLOSED)
        message = request if self._serializer is None else self._serializer(request)
        try:
            if not await self._requests.write(message):
                self._talk.raise_for_status()
                raise asyncio.InvalidStateError(FINISHED)
        except asyncio.CancelledError:
            self.cancel()
            raise

    async def _consume(self, source: Source) -> None:
        try:
            if isinstance(source, AsyncIterable):
                async for request in source:
                    await self._write(request)
            else:
                for request in source:
                    await self._write(request)
            await self._requests.close()
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the call is over, and its status says why
        except asyncio.CancelledError:
            raise
        except Exception:
            # What a caller's iterator raises cancels the call, as in grpc.
            LOG.debug("the request iterator raised", exc_info=True)
            self.cancel()


class StreamStreamCall(Writing, Handle, grpc.aio.StreamStreamCall[Any, Any]):
    """Streams both ways."""

    def __init__(
        self, multi: Method, call: Call, options: dict[str, Any], source: Source | None
    ) -> None:
        requests = Requests(call)
        stream = Stream(multi, call, options, requests)
        Handle.__init__(self, stream, multi.channel.loop)
        self._write_with(stream, requests, multi, source)


class StreamUnaryCall(Writing, Outcome, grpc.aio.StreamUnaryCall[Any, Any]):
    """A stream of requests, one reply."""

    def __init__(
        self, multi: Method, call: Call, options: dict[str, Any], source: Source | None
    ) -> None:
        Outcome.__init__(self, multi, call, options)
        self._write_with(self, Requests(call), multi, source)
        self._task = multi.channel.loop.create_task(self._converse())

    def __await__(self) -> Generator[Any, None, Any]:
        return self._joined().__await__()

    async def wait_for_connection(self) -> None:
        await self._requests.until_connected()
        if self._done:
            self.raise_for_status()

    def _settle(self, reply: Any = None, error: BaseException | None = None) -> None:
        super()._settle(reply, error)
        self._requests.end()

    async def _attempt(self, call: Call) -> Any:
        inner, link = await self._multi.begin(call, None, self._options)
        feeding = asyncio.ensure_future(self._requests.feed(inner, call))
        try:
            reply = await inner
        except grpc.aio.AioRpcError as error:
            raise status.failed(error) from None
        except asyncio.CancelledError:
            failure = wire.recalled(link)
            if failure is None:
                raise
            raise failure from None
        finally:
            feeding.cancel()
        call.committed, self._inner = True, inner
        return reply
