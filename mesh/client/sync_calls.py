"""
Calls that block: the flow runs on the calling thread, or on one of its own for futures and streams.

The caller's object is grpc's Call and Future; a stream is its iterator too.  While a stream is not
committed its reader never decides: an attempt that ends before any answer is left to the flow.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from contextvars import copy_context
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

import grpc

from mesh.call import Call
from mesh.client import status, wire
from mesh.client.pool import READY
from mesh.client.sync_requests import Replay
from mesh.drive import Blocking, Stopped
from mesh.errors import Code, MeshError
from mesh.flow import Inner, Signal

if TYPE_CHECKING:
    from mesh.client.sync_callables import SyncMultiCallable
    from mesh.client.sync_pool import SyncLink

# A failure without headers shows as empty headers until its status follows, at once.
TRAILERS_ONLY_SECONDS = 0.005


def link_of(links: dict[str, SyncLink], call: Call) -> SyncLink:
    """The link to the endpoint that the column chose, connected; else CallFailed."""
    link = None if call.endpoint is None else links.get(call.endpoint.id)
    if link is None:
        raise wire.unsent(Code.UNAVAILABLE, call.endpoint)
    if link.state is not READY:
        remaining = call.remaining(monotonic())
        if not link.connected(call.wait_for_ready, remaining):
            late = remaining is not None and call.remaining(monotonic()) == 0.0
            raise wire.unsent(Code.DEADLINE_EXCEEDED if late else Code.UNAVAILABLE, link.endpoint)
    return link


class SyncCalls(Protocol):
    """What all calls of one blocking channel share."""

    active: set[Any]
    driver: Blocking
    flow: Inner


class SyncMethod(Protocol):
    """A method of a blocking stub: how a stream on it is begun, whatever the channel."""

    @property
    def channel(self) -> SyncCalls: ...

    def begun(
        self, call: Call, request: Any, options: dict[str, Any]
    ) -> AbstractContextManager[Any]:
        """One attempt's call of grpc's own, in flight until the block is left."""
        ...


class UnaryAttempts:
    """
    The wire of one unary call on the calling thread.

    `inner` is grpc's call that replied; making one costs, so that it must be asked for.
    """

    def __init__(
        self,
        multi: SyncMultiCallable,
        options: dict[str, Any],
        replay: Replay | None,
        *,
        with_call: bool,
    ) -> None:
        self._multi = multi
        self._options = options
        self._replay = replay
        self._with_call = with_call
        self.inner: Any = None

    def __call__(self, call: Call, stop: Signal | None) -> Any:
        channel = self._multi.channel
        link = link_of(channel.pool.links, call)
        multi = link.callable(self._multi)
        request = call.request if self._replay is None else self._replay.attempt(call)
        timeout, metadata = wire.timeout(call), wire.metadata(call)
        link.begin()
        try:
            if stop is not None:
                self.inner = multi.future(request, timeout, metadata, **self._options)
                reply = _awaited(self.inner, stop, channel.driver.lock)
            elif self._with_call:
                reply, self.inner = multi.with_call(request, timeout, metadata, **self._options)
            else:
                reply = multi(request, timeout, metadata, **self._options)
        except grpc.RpcError as error:
            raise status.failed(error) from None
        finally:
            link.end()
        call.committed = True
        return reply


def _awaited(future: Any, stop: Signal, lock: threading.RLock) -> Any:
    with lock:
        stop.subscribe(future.cancel)
    try:
        return future.result()
    except grpc.FutureCancelledError:
        raise Stopped from None
    finally:
        with lock:
            stop.unsubscribe(future.cancel)


class RpcConversation(grpc.RpcError, grpc.Call, grpc.Future):  # type: ignore[type-arg]
    """A call whose flow runs on a thread of its own."""

    def __init__(
        self,
        multi: SyncMethod,
        call: Call,
        options: dict[str, Any],
        replay: Replay | None = None,
    ) -> None:
        super().__init__()
        self._multi = multi
        self._call = call
        self._options = options
        self._replay = replay
        self._stop = Signal()
        self._turned = threading.Condition()
        self._done = False
        self._cancelled = False
        self._reply: Any = None
        self._error: BaseException | None = None
        self._inner: Any = None
        self._callbacks: list[Callable[[], None]] = []
        multi.channel.active.add(self)
        context = copy_context()
        threading.Thread(
            target=context.run, args=(self._converse,), name="mesh-call", daemon=True
        ).start()

    def _converse(self) -> None:
        channel, call = self._multi.channel, self._call
        reply: Any = None
        error: BaseException | None = None
        try:
            reply = channel.driver.drive(channel.flow(call), call, self._attempt, self._stop)
        except MeshError as failure:
            error = status.surface_blocking(failure)
        except Stopped:
            self._cancelled = True
        except Exception as failure:  # noqa: BLE001 - told to whoever asks for the result
            error = failure
        self._settle(reply, error)

    def _attempt(self, call: Call, stop: Signal | None) -> Any:
        raise NotImplementedError

    def _settle(self, reply: Any, error: BaseException | None) -> None:
        with self._turned:
            if self._done:
                return
            self._done, self._reply, self._error = True, reply, error
            callbacks, self._callbacks = self._callbacks, []
            self._turned.notify_all()
        self._multi.channel.active.discard(self)
        if self._replay is not None:
            self._replay.end()
        for callback in callbacks:
            callback()

    def _ended(self, timeout: float | None = None) -> None:
        with self._turned:
            if not self._turned.wait_for(lambda: self._done, timeout):
                raise grpc.FutureTimeoutError

    # -- grpc.Future

    def cancel(self) -> bool:
        with self._turned:
            if self._done:
                return False
            self._cancelled = True
        with self._multi.channel.driver.lock:
            self._stop.set()
        self._settle(None, None)
        return True

    def cancelled(self) -> bool:
        return self._cancelled

    def running(self) -> bool:
        return not self._done

    def done(self) -> bool:
        return self._done

    def result(self, timeout: float | None = None) -> Any:
        self._ended(timeout)
        if self._cancelled:
            raise grpc.FutureCancelledError
        if self._error is not None:
            raise self._error
        return self._reply

    def exception(self, timeout: float | None = None) -> Any:
        self._ended(timeout)
        if self._cancelled:
            raise grpc.FutureCancelledError
        return self._error

    def traceback(self, timeout: float | None = None) -> Any:
        error = self.exception(timeout)
        return None if error is None else error.__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        if not self.add_callback(lambda: fn(self)):
            fn(self)

    # -- grpc.Call

    def is_active(self) -> bool:
        return not self._done

    def time_remaining(self) -> Any:
        return self._call.remaining(monotonic())

    def add_callback(self, callback: Callable[[], None]) -> bool:
        with self._turned:
            if self._done:
                return False
            self._callbacks.append(callback)
            return True

    def initial_metadata(self) -> Any:
        return self._told("initial_metadata", ())

    def trailing_metadata(self) -> Any:
        return self._told("trailing_metadata", ())

    def code(self) -> Any:
        self._ended()
        cancelled = grpc.StatusCode.CANCELLED if self._cancelled else grpc.StatusCode.OK
        return self._told("code", cancelled)

    def details(self) -> Any:
        self._ended()
        return self._told("details", status.LOCALLY_CANCELLED if self._cancelled else "")

    def debug_error_string(self) -> Any:
        return self._told("debug_error_string", "")

    def _told(self, question: str, otherwise: Any) -> Any:
        self._ended()
        answering = self._error if isinstance(self._error, grpc.Call) else self._inner
        if self._error is not None and answering is None:
            raise self._error
        if self._cancelled or answering is None:
            return otherwise
        return getattr(answering, question)()


class SyncFuture(RpcConversation):
    """A call with one reply, for later."""

    _multi: SyncMultiCallable

    def _attempt(self, call: Call, stop: Signal | None) -> Any:
        attempts = UnaryAttempts(self._multi, self._options, self._replay, with_call=True)
        reply = attempts(call, stop)
        self._inner = attempts.inner
        return reply


class SyncStream(RpcConversation):
    """A call with streamed replies; iterate it."""

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        inner: Any = None
        while True:
            inner = self._opened(after=inner)
            if inner is None:
                break
            try:
                message = next(inner)
            except (StopIteration, grpc.RpcError):
                continue  # the flow says whether that was the end
            self._call.committed = True
            return message
        if self._cancelled:
            raise self
        if self._error is not None:
            raise self._error
        raise StopIteration

    def initial_metadata(self) -> Any:
        inner = self._opened(after=None)
        return super().initial_metadata() if inner is None else inner.initial_metadata()

    def result(self, timeout: float | None = None) -> Any:
        super().result(timeout)
        return self

    def _opened(self, after: Any) -> Any:
        """The call to read from, once it is another than `after`; None when there is no more."""
        with self._turned:
            self._turned.wait_for(lambda: self._done or self._inner is not after)
            return None if self._inner is after else self._inner

    def _attempt(self, call: Call, stop: Signal | None) -> Any:
        channel = self._multi.channel
        request = call.request if self._replay is None else self._replay.attempt(call)
        with self._multi.begun(call, request, self._options) as inner:
            ended = threading.Event()
            if not inner.add_callback(ended.set):
                ended.set()
            with channel.driver.lock:
                (stop or self._stop).subscribe(inner.cancel)
            try:
                headers = inner.initial_metadata()
                with self._turned:
                    self._inner = inner
                    self._turned.notify_all()
                if headers or not ended.wait(TRAILERS_ONLY_SECONDS):
                    self._call.committed = call.committed = True
                code = inner.code()
            finally:
                with channel.driver.lock:
                    (stop or self._stop).unsubscribe(inner.cancel)
        call.committed = call.committed or self._call.committed
        if code is grpc.StatusCode.OK:
            return inner
        raise status.failed(inner)
