"""
A call object that behaves as grpc.aio's own: one outcome, told to whoever asks.

`Outcome` is what the four kinds share.  A unary call is lazy: awaited at once, its flow runs inside
the awaiting task at the price of one coroutine; left alone, it starts at the loop's next turn, as
grpc's own would, so that two calls made and then awaited in turn run side by side.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Generator
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import grpc
import grpc.aio

from mesh.call import Call
from mesh.client import status, wire
from mesh.client.reply import reply as reply_of
from mesh.drive import drive
from mesh.errors import MeshError

if TYPE_CHECKING:
    from mesh.client.wire import Method

LOG = logging.getLogger(__name__)
DoneCallback = Callable[[Any], None]


class Outcome(grpc.aio.Call):
    """The state of one call: pending, then replied, failed or cancelled, once."""

    # What most calls never change stays with the class: making a call is on everyone's way.
    _done = False
    _cancelled = False
    _reply: Any = None
    # What the caller is told instead of a reply.
    _error: BaseException | None = None
    # grpc's own call that brought the reply, if any did.
    _inner: Any = None
    # The task that runs the flow: our own, or the one that awaits the call (`lent`).
    _task: asyncio.Task[Any] | None = None
    _lent = False
    _recalled = False
    _callbacks: tuple[DoneCallback, ...] = ()
    _waiters: tuple[asyncio.Future[None], ...] = ()

    def __init__(self, multi: Method, call: Call, options: dict[str, Any]) -> None:
        self._multi = multi
        self._call = call
        self._options = options

    # -- the conversation

    async def _run(self) -> Any:
        """Run the flow and settle; the reply, or what the caller is told instead raised."""
        channel, call = self._multi.channel, self._call
        channel.active.add(self)
        try:
            reply = await drive(channel.flow(call), call, self._attempt)
        except MeshError as failure:
            error = status.surface(failure)
            self._settle(error=error)
            raise error from None
        except asyncio.CancelledError:
            self._settle_cancelled()
            if self._lent and self._recalled and self._task is not None:
                # The task that awaits the call is not what was cancelled.
                self._task.uncancel()
            raise
        except BaseException as error:
            self._settle(error=error)
            raise
        self._settle(reply)
        return reply

    async def _converse(self) -> None:
        """Run the flow in a task of its own, whose result nobody asks for."""
        try:
            await self._run()
        except Exception:
            # It is settled, and told to whoever asks the call.
            LOG.debug("%s failed", self._call.method.name, exc_info=True)

    async def _attempt(self, call: Call) -> Any:
        raise NotImplementedError

    def _settle(self, reply: Any = None, error: BaseException | None = None) -> None:
        if self._done:
            return
        self._done, self._reply, self._error = True, reply, error
        self._multi.channel.active.discard(self)
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        callbacks, self._callbacks = self._callbacks, ()
        for callback in callbacks:
            callback(self)

    def _settle_cancelled(self) -> None:
        if not self._done:
            self._cancelled = True
            self._settle()

    async def _ended(self) -> None:
        if not self._done:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters += (waiter,)
            await waiter

    async def _joined(self) -> Any:
        """Wait for the end; whoever gives up waiting for the reply cancels the call."""
        try:
            await self._ended()
        except asyncio.CancelledError:
            self.cancel()
            raise
        self.raise_for_status()
        return self._reply

    def raise_for_status(self) -> None:
        """Raise what the caller must know, if the call has ended and not well."""
        if self._cancelled:
            raise asyncio.CancelledError
        if self._error is not None:
            raise self._error

    # -- grpc.aio.Call

    def cancel(self) -> bool:
        if self.done():
            return False
        self._settle_cancelled()
        if self._task is not None:
            self._recalled = True
            self._task.cancel()
        return True

    def cancelled(self) -> bool:
        return self._cancelled or (
            isinstance(self._error, grpc.aio.AioRpcError)
            and self._error.code() is grpc.StatusCode.CANCELLED
        )

    def done(self) -> bool:
        return self._done

    def time_remaining(self) -> float | None:
        return self._call.remaining(monotonic())

    def add_done_callback(self, callback: DoneCallback) -> None:
        if self.done():
            callback(self)
        else:
            self._callbacks += (callback,)

    async def initial_metadata(self) -> grpc.aio.Metadata:
        return cast("grpc.aio.Metadata", await self._told("initial_metadata"))

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        told = cast("grpc.aio.Metadata", await self._told("trailing_metadata"))
        # What layers say of the reply, such as that it is a fallback.
        return told + grpc.aio.Metadata(*self._call.notes) if self._call.notes else told

    async def code(self) -> grpc.StatusCode:
        return cast("grpc.StatusCode", await self._told("code"))

    async def details(self) -> str:
        return cast("str", await self._told("details"))

    async def debug_error_string(self) -> str:
        return cast("str", await self._told("debug_error_string"))

    async def wait_for_connection(self) -> None:
        await self._ended()
        if self._error is not None:
            raise self._error

    async def _told(self, question: str) -> Any:
        """What the error, or else grpc's own call, answers to `question`."""
        await self._ended()
        if self._cancelled:
            return _ANSWERS_CANCELLED[question]()
        if isinstance(self._error, grpc.aio.AioRpcError):
            return getattr(self._error, question)()
        if self._error is not None:
            raise self._error
        if self._inner is None:
            return _ANSWERS_OK[question]()
        return await getattr(self._inner, question)()


class UnaryUnaryCall(Outcome, grpc.aio.UnaryUnaryCall[Any, Any]):
    """One request, one reply."""

    def __init__(self, multi: Method, call: Call, options: dict[str, Any]) -> None:
        super().__init__(multi, call, options)
        self._soon = multi.channel.loop.call_soon(self._begin)

    def _begin(self) -> None:
        if self._task is None and not self._done:
            self._task = self._multi.channel.loop.create_task(self._converse())

    def __await__(self) -> Generator[Any, None, Any]:
        if self._task is None and not self._done:
            self._soon.cancel()
            self._task, self._lent = asyncio.current_task(), True
            return self._run().__await__()
        return self._joined().__await__()

    async def _attempt(self, call: Call) -> Any:
        begun = self._multi.begin(call, call.request, self._options)
        inner, link = begun if isinstance(begun, tuple) else await begun
        try:
            reply = await reply_of(inner)
        except grpc.aio.AioRpcError as error:
            raise status.failed(error) from None
        except asyncio.CancelledError:
            failure = wire.recalled(link)
            if failure is None:
                raise
            raise failure from None
        call.committed, self._inner = True, inner
        return reply


_ANSWERS_OK: dict[str, Callable[[], Any]] = {
    "code": lambda: grpc.StatusCode.OK,
    "details": str,
    "debug_error_string": str,
    "initial_metadata": grpc.aio.Metadata,
    "trailing_metadata": grpc.aio.Metadata,
}
_ANSWERS_CANCELLED: dict[str, Callable[[], Any]] = {
    **_ANSWERS_OK,
    "code": lambda: grpc.StatusCode.CANCELLED,
    "details": lambda: status.LOCALLY_CANCELLED,
}
