"""
The server's own column around every handler, for all four kinds of rpc.

    exempting     health and reflection pass untouched: overload must not look like death
    translating   whatever is raised below becomes a rich status; unknown text never leaves
    leaving       a server about to stop refuses new calls by name, so that they go elsewhere
    admitting     as many calls as the limits allow, by criticality when it gets tight
    inheriting    INBOUND is set: deadline, trace, criticality flow into the calls made inside
    refusing      "less than the floor left": DEADLINE_EXCEEDED before the handler runs
    validating    every request message, unary or streamed, against its buf.validate rules
    -> handler

gRPC's core cancels the handler at the call's deadline (asyncio.CancelledError) and when the client
goes away; both pass through untouched.  A handler's task is its own, so INBOUND is never reset.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from contextlib import AbstractContextManager, aclosing, contextmanager, nullcontext, suppress
from typing import Any, Protocol

import grpc

from mesh.errors import Code, DeadlineSpent
from mesh.inbound import INBOUND, Inbound
from mesh.server.blocking import Handler, awaitable, behaviour_of, shared_pool, with_behaviour
from mesh.server.refusal import draining, stopping
from mesh.server.translate import translate
from mesh.server.validate import Check
from mesh.status import DOMAIN, GRPC_CODES, to_trailing

TRACEPARENT_KEY = "traceparent"
CRITICALITY_KEY = "x-mesh-criticality"
ATTEMPTS_KEY = "grpc-previous-rpc-attempts"

EXEMPT = ("/grpc.health.", "/grpc.reflection.")

# grpcio's "no deadline" is 9.2e18 s where it is not None (grpc/grpc#26236).
NO_DEADLINE = 1e9


class Admit(Protocol):
    """Who may come in: a place for the length of a `with`, or a StatusError."""

    def __call__(
        self, method: str, inbound: Inbound, *, lasting: bool
    ) -> AbstractContextManager[None]: ...


logger = logging.getLogger("mesh.server")


def _everybody(
    method: str, inbound: Inbound, *, lasting: bool = False
) -> AbstractContextManager[None]:
    return nullcontext()


class Serving(grpc.aio.ServerInterceptor):
    """The column above, as the outermost interceptor of a grpc.aio server."""

    def __init__(
        self,
        *,
        check: Check | None = None,
        floor: float = 0.005,
        admit: Admit = _everybody,
        pool: Executor | None = None,
    ) -> None:
        self._check = check
        self._floor = floor
        self._admit = admit
        self._pool = pool
        self._made: dict[str, tuple[Handler, Handler]] = {}
        self._streams: set[asyncio.Task[Any]] = set()
        self._ending = False
        # Set by each call that is refused because this server is leaving; None while it is not.
        self._asked: asyncio.Event | None = None

    async def leave(self, quiet: float) -> None:
        """Refuse every new call from now on; return once nobody asked for `quiet` seconds."""
        self._asked = asyncio.Event()
        with suppress(TimeoutError):
            while True:
                self._asked.clear()
                async with asyncio.timeout(quiet):
                    await self._asked.wait()

    def end_streams(self) -> None:
        """Answer every stream in progress with UNAVAILABLE, so that its client goes elsewhere."""
        self._ending = True
        for task in tuple(self._streams):
            task.cancel()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None  # grpc answers UNIMPLEMENTED
        known = self._made.get(method)
        if known is None or known[0] is not handler:
            known = self._made[method] = handler, self._around(method, handler)
        return known[1]

    def _around(self, method: str, handler: Handler) -> Handler:
        handler = awaitable(handler, self._pool or shared_pool())
        behaviour = behaviour_of(handler)
        exempt = method.startswith(EXEMPT)
        streaming = handler.request_streaming
        streams = streaming or handler.response_streaming
        check = None if exempt else self._check

        def begin(request: Any, context: Any) -> tuple[Any, Any]:
            """Validate; the request and context that the handler gets."""
            if check is None:
                return request, context
            if streaming:
                return _checked(request, check), _CheckedContext(context, check)
            check(request)
            return request, context

        def admitted(context: Any) -> AbstractContextManager[None]:
            if exempt:
                return nullcontext()
            if self._asked is not None:
                self._asked.set()
                raise draining()
            inbound = self._inherit(context)
            # A stream of either side is as long as its caller likes.
            return self._admit(method, inbound, lasting=streams)

        lasting = self._endable if handler.response_streaming else nullcontext

        async def single(request: Any, context: Any) -> Any:
            try:
                with lasting(), admitted(context):
                    return await behaviour(*begin(request, context))
            except Exception as error:  # noqa: BLE001 - the one edge where errors become statuses
                return await _fail(method, context, error)

        async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
            try:
                with lasting(), admitted(context):
                    async with aclosing(behaviour(*begin(request, context))) as replies:
                        async for reply in replies:
                            yield reply
            except Exception as error:  # noqa: BLE001 - as above
                await _fail(method, context, error)

        # A handler that writes with context.write() is a coroutine, whatever its rpc returns.
        yields = inspect.isasyncgenfunction(behaviour)
        return with_behaviour(handler, stream if yields else single)

    @contextmanager
    def _endable(self) -> Iterator[None]:
        """Let `end_streams` turn this call's end into an answer instead of a silence."""
        task = asyncio.current_task()
        assert task is not None
        self._streams.add(task)
        try:
            yield
        except asyncio.CancelledError:
            if not self._ending:
                raise
            task.uncancel()
            raise stopping() from None
        finally:
            self._streams.discard(task)

    def _inherit(self, context: Any) -> Inbound:
        inbound = read_inbound(context, time.monotonic())
        if inbound.deadline is not None:
            remaining = inbound.deadline - time.monotonic()
            if remaining < self._floor:
                raise DeadlineSpent(
                    f"{max(0.0, remaining) * 1000:.1f} ms left of the deadline on arrival,"
                    f" below the floor of {self._floor * 1000:g} ms"
                )
        INBOUND.set(inbound)
        return inbound


def read_inbound(context: Any, now: float) -> Inbound:
    """What the caller handed down; anything malformed counts as absent."""
    remaining = context.time_remaining()
    deadline = None if remaining is None or remaining >= NO_DEADLINE else now + remaining
    traceparent = criticality = ""
    attempts = 0
    for key, value in context.invocation_metadata() or ():
        if key == TRACEPARENT_KEY:
            traceparent = value
        elif key == CRITICALITY_KEY:
            criticality = value
        elif key == ATTEMPTS_KEY and value.isascii() and value.isdigit():
            attempts = int(value)
    return Inbound(deadline, traceparent, criticality, attempts)


async def _fail(method: str, context: Any, error: Exception) -> None:
    """Answer with the status of *error*, once."""
    if isinstance(error, grpc.aio.AbortError):
        raise error  # the handler answered by context.abort()
    told = translate(error, context)
    if told.code is Code.INTERNAL and told.domain == DOMAIN:
        logger.error("%s failed", method, exc_info=error)
    if context.done():
        raise asyncio.CancelledError from error  # nobody waits for an answer any more
    await context.abort(
        GRPC_CODES[told.code],
        told.message,
        (*(context.trailing_metadata() or ()), *to_trailing(told)),
    )


async def _checked(requests: AsyncIterator[Any], check: Check) -> AsyncGenerator[Any, None]:
    async for request in requests:
        check(request)
        yield request


class _CheckedContext:
    """The same context; what is read from it is checked too."""

    def __init__(self, context: Any, check: Check) -> None:
        self._context = context
        self._check = check

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    async def read(self) -> Any:
        message = await self._context.read()
        if message is not grpc.aio.EOF:
            self._check(message)
        return message
