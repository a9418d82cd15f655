"""
A blocking servicer method made awaitable: it runs on a pool of threads, one step at a time.

A stream of a blocking generator takes a thread for each `next()`, not one for its whole life, so
that a hundred quiet streams starve nobody.  The method sees the contextvars of its call (INBOUND),
and a context whose waiting methods block instead of returning coroutines.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from functools import cache
from typing import Any, TypeAlias

import grpc

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
_END = object()


@cache
def shared_pool() -> Executor:
    """For blocking handlers on a server that is not ours and has named no pool."""
    return ThreadPoolExecutor(thread_name_prefix="servicer")


def is_async(behaviour: Callable[..., Any]) -> bool:
    """As grpc.aio decides it."""
    return inspect.iscoroutinefunction(behaviour) or inspect.isasyncgenfunction(behaviour)


def behaviour_of(handler: Handler) -> Callable[..., Any]:
    """The one of the handler's four functions that its kind uses."""
    if handler.request_streaming:
        chosen = handler.stream_stream if handler.response_streaming else handler.stream_unary
    else:
        chosen = handler.unary_stream if handler.response_streaming else handler.unary_unary
    assert chosen is not None
    return chosen


def with_behaviour(handler: Handler, behaviour: Callable[..., Any]) -> Handler:
    """The same rpc, answered by *behaviour*."""
    if handler.request_streaming:
        make = (
            grpc.stream_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.stream_unary_rpc_method_handler
        )
    else:
        make = (
            grpc.unary_stream_rpc_method_handler
            if handler.response_streaming
            else grpc.unary_unary_rpc_method_handler
        )
    made: Handler = make(behaviour, handler.request_deserializer, handler.response_serializer)
    return made


def awaitable(handler: Handler, pool: Executor) -> Handler:
    """*handler* itself when it is async; else one that runs it on *pool*."""
    behaviour = behaviour_of(handler)
    if is_async(behaviour):
        return handler

    def begin(request: Any, context: Any) -> tuple[Steps, Any]:
        steps = Steps(context, pool)
        if handler.request_streaming:
            request = _blocking_iterator(aiter(request), asyncio.get_running_loop())
        return steps, request

    async def unary(request: Any, context: Any) -> Any:
        steps, request = begin(request, context)
        with steps:
            return await asyncio.wrap_future(steps.submit(behaviour, request, steps.context))

    async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
        steps, request = begin(request, context)
        with steps:
            made = await asyncio.wrap_future(steps.submit(behaviour, request, steps.context))
            replies: Iterator[Any] = iter(made)
            running = steps.submit(next, replies, _END)
            try:
                while (reply := await asyncio.wrap_future(running)) is not _END:
                    yield reply
                    running = steps.submit(next, replies, _END)
            finally:
                # A cancelled call may leave a step running; the generator is closed after it.
                running.add_done_callback(lambda _: steps.finish(steps.run, _close, replies))

    return with_behaviour(handler, stream if handler.response_streaming else unary)


class Steps:
    """One call of a blocking method: each step on the pool, all in the call's own contextvars."""

    def __init__(self, context: Any, pool: Executor) -> None:
        self.context = BlockingContext(context, asyncio.get_running_loop())
        self._pool = pool
        self.run = contextvars.copy_context().run

    def submit(self, step: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return self._pool.submit(self.run, step, *arguments)

    def finish(self, last: Callable[..., Any], *arguments: Any) -> None:
        """Something to be done, even when the server is stopping and its pool takes no more."""
        try:
            self._pool.submit(last, *arguments)
        except RuntimeError:
            last(*arguments)

    def __enter__(self) -> None:
        """Until the end of the block, the call is active."""

    def __exit__(self, *why: object) -> None:
        for callback in self.context.end():
            self.finish(callback)


def _close(replies: Iterator[Any]) -> None:
    """Run the finally blocks of a generator; any other iterator has none."""
    if inspect.isgenerator(replies):
        replies.close()


def _blocking_iterator(
    requests: AsyncIterator[Any], loop: asyncio.AbstractEventLoop
) -> Iterator[Any]:
    async def following() -> Any:
        return await anext(requests, _END)

    while True:
        request = asyncio.run_coroutine_threadsafe(following(), loop).result()
        if request is _END:
            return
        yield request


class BlockingContext:
    """A servicer context for another thread: what must be awaited on the loop blocks here."""

    def __init__(self, context: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._context = context
        self._loop = loop
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] | None = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Any = ()) -> None:
        self._wait(self._context.abort(code, details, trailing_metadata))

    def abort_with_status(self, status: Any) -> None:
        self._wait(self._context.abort_with_status(status))

    def send_initial_metadata(self, initial_metadata: Any) -> None:
        self._wait(self._context.send_initial_metadata(initial_metadata))

    def is_active(self) -> bool:
        """Whether anybody still waits for this call."""
        return self._callbacks is not None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Have *callback* called when the call ends; False when it has ended already."""
        with self._lock:
            if self._callbacks is None:
                return False
            self._callbacks.append(callback)
            return True

    def end(self) -> list[Callable[[], None]]:
        """The call has ended, whoever ended it; answers what is to be called now."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
            return callbacks or []

    def time_remaining(self) -> float | None:
        """None without a deadline, where grpc's own says 9.2e18 (grpc/grpc#26236)."""
        remaining: float | None = self._context.time_remaining()
        return remaining

    def _wait(self, work: Coroutine[Any, Any, Any]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result()
