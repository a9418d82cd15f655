"""
A call object that behaves as grpc.aio's own: one outcome, told to whoever asks.

`Outcome` is what the four kinds share.  A unary call begins when it is made: where nothing is in
the way its flow goes as far as the wire at once, so that two calls made and then awaited in turn
run side by side.  From there it goes on inside the task that awaits it, or, left alone until its
attempt has ended, in a task of its own.
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
from mesh.client import cancelling, status, wire
from mesh.drive import drive
from mesh.errors import CallFailed, MeshError
from mesh.flow import Attempt, Step

if TYPE_CHECKING:
    from mesh.client.pool import Link
    from mesh.client.wire import Begun, Method

LOG = logging.getLogger(__name__)
DoneCallback = Callable[[Any], None]
# An attempt that is out, the link it is on, and what is set when it has ended.
Sent = tuple[Any, "Link | None", "asyncio.Future[None] | None"]


class Outcome(grpc.aio.Call):
    """The state of one call: pending, then replied, failed or cancelled, once."""

    # What a call that goes well never reads stays with the class: making one is on everyone's way.
    _cancelled = False
    _lent = _recalled = False
    _reply: Any = None
    # What the caller is told instead of a reply.
    _error: BaseException | None = None
    # grpc's own call that brought the reply, if any did.
    _inner: Any = None

    def __init__(self, multi: Method, call: Call, options: dict[str, Any]) -> None:
        self._multi = multi
        self._call = call
        self._options = options
        self._done = False
        # Where the flow stands, when it has begun before anybody drives it.
        self._step: Step | None = None
        # The task that runs the flow: our own, or the one that awaits the call (`lent`).
        self._task: asyncio.Task[Any] | None = None
        self._callbacks: tuple[DoneCallback, ...] = ()
        self._waiters: tuple[asyncio.Future[None], ...] = ()
        channel = multi.channel
        self._steps = channel.flow(call)
        channel.active.add(self)

    # -- the conversation

    async def _run(self) -> Any:
        """Run the flow and settle; the reply, or what the caller is told instead raised."""
        try:
            reply = await drive(self._steps, self._call, self._attempt, first=self._step)
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
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(None)
        if self._callbacks:
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
        Outcome.__init__(self, multi, call, options)
        # The first attempt, from when it was sent until somebody drives the flow.
        self._first: Sent | None = None
        self._soon: asyncio.Handle | None = None
        try:
            self._step = step = next(self._steps)
        except MeshError as refusal:
            self._settle(error=status.surface(refusal))
            return
        try:
            begun = None
            if type(step) is Attempt:
                begun = multi.begin_now(step.call, call.request, options)
        except CallFailed:
            begun = None  # nothing was sent; the flow hears of it once it is driven
        if begun is not None:
            self._first = self._sent(begun)
        else:
            self._soon = multi.channel.soon(self._go_on)

    def __await__(self) -> Generator[Any, None, Any]:
        if self._task is None and not self._done:
            if self._soon is not None:
                self._soon.cancel()
            self._task, self._lent = asyncio.current_task(self._multi.channel.loop), True
            return self._run().__await__()
        return self._joined().__await__()

    async def settled(self) -> None:
        """Wait for the end, however it is; whoever gives up waiting cancels the call."""
        try:
            await self
        except Exception:
            if not self._done:
                raise

    def cancel(self) -> bool:
        if not super().cancel():
            return False
        if self._task is None:
            self._steps.close()
            if self._first is not None:
                cancelling.cancel(self._first[0])
        return True

    def _go_on(self) -> None:
        """Drive the flow in a task of its own, unless somebody does already."""
        if self._task is None and not self._done:
            self._task = self._multi.channel.loop.create_task(self._converse())

    def _sent(self, begun: Begun) -> Sent:
        """An attempt that is out, and a future that tells when it has ended."""
        inner, link = begun
        if link is None:
            return inner, None, None
        ended = self._multi.channel.loop.create_future()

        def end(_: Any) -> None:
            if not ended.done():
                ended.set_result(None)
            if self._task is None:
                self._go_on()

        inner.add_done_callback(end)
        return inner, link, ended

    async def _attempt(self, call: Call) -> Any:
        sent, self._first = self._first, None
        if sent is None:
            sent = self._sent(await self._multi.begin(call, call.request, self._options))
        inner, link, ended = sent
        try:
            if ended is not None:
                # Not for `inner`: who is cancelled while waiting for that cancels grpc's own task.
                await ended
            reply = await inner
        except grpc.aio.AioRpcError as error:
            raise status.failed(error) from None
        except asyncio.CancelledError:
            failure = wire.recalled(link)
            if failure is None:
                cancelling.cancel(inner)
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
