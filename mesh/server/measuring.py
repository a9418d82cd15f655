"""
Server calls as figures, by gRPC's own names (gRFC A66), measured around everything else.

    grpc.server.call.started         by method
    grpc.server.call.duration        by method and final status, refusals included

"Unregistered/generic method names should by default be reported with "other" value", so that no
client can fill the memory with names.  The sizes of messages are not among them: a handler sees
messages, not their bytes.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import grpc

from mesh.errors import Code
from mesh.server.blocking import Handler, behaviour_of, with_behaviour
from mesh.telemetry.figures import OTHER, Figures
from mesh.telemetry.metrics import LATENCY, METHOD, STATUS


class Measuring(grpc.aio.ServerInterceptor):
    """Counts each call; stands outside whatever may refuse one."""

    def __init__(self, figures: Figures, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._started = figures.counter(
            "grpc.server.call.started", "RPCs started", "{call}", (METHOD,)
        )
        self._ended = figures.histogram(
            "grpc.server.call.duration", "Time an RPC took", "s", (METHOD, STATUS), LATENCY
        )
        self._made: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:  # grpc answers UNIMPLEMENTED, at once
            self._started.add((OTHER,))
            self._ended.observe((OTHER, Code.UNIMPLEMENTED.name), 0.0)
            return None
        known = self._made.get(method)
        if known is None or known[0] is not handler:
            known = self._made[method] = handler, self._around(method.lstrip("/"), handler)
        return known[1]

    def _around(self, method: str, handler: Handler) -> Handler:
        behaviour = behaviour_of(handler)

        async def single(request: Any, context: Any) -> Any:
            with self._measured(method, context):
                return await behaviour(request, context)

        async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
            with self._measured(method, context):
                async with aclosing(behaviour(request, context)) as replies:
                    async for reply in replies:
                        yield reply

        yields = inspect.isasyncgenfunction(behaviour)
        return with_behaviour(handler, stream if yields else single)

    @contextmanager
    def _measured(self, method: str, context: Any) -> Iterator[None]:
        self._started.add((method,))
        began, status = self._clock(), ""
        try:
            yield
        except (asyncio.CancelledError, GeneratorExit):
            remaining = context.time_remaining()
            late = remaining is not None and remaining <= 0
            status = (Code.DEADLINE_EXCEEDED if late else Code.CANCELLED).name
            raise
        except BaseException:
            status = _code(context) or Code.UNKNOWN.name
            raise
        finally:
            ended = status or _code(context) or Code.OK.name
            self._ended.observe((method, ended), self._clock() - began)


def _code(context: Any) -> str:
    """The status that the handler has set, by name; "" when it has set none."""
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code.name
    return Code(code).name if code else ""
