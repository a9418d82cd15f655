"""
Nobody is served who has not said who they are, and proven it.

    proven (mesh.identity.proof) .......... by a seal or a token, else UNAUTHENTICATED
    `allow(method, caller)` raises ........ its error
    -> handler; CALLER is set, and the calls that it makes say the same again

Health and reflection tell nothing of anybody: they stay open.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from typing import Any

import grpc

from mesh.identity.caller import CALLER, Caller, Verifier
from mesh.identity.proof import proven
from mesh.identity.seal import Seal
from mesh.inbound import INBOUND, Inbound
from mesh.server.blocking import Handler, awaitable, behaviour_of, shared_pool, with_behaviour
from mesh.server.intercept import EXEMPT

# Raises a StatusError for what a caller may not call; runs in the context of the call.
Allow = Callable[[str, Caller], None]


def everything(method: str, caller: Caller) -> None:
    """Whoever is known may call anything."""


class Identifying(grpc.aio.ServerInterceptor):
    """The interceptor above; it stands before any that asks who calls."""

    def __init__(
        self, seal: Seal, *, tokens: Verifier | None = None, allow: Allow = everything
    ) -> None:
        self._seal = seal
        self._tokens = tokens
        self._allow = allow
        self._made: dict[str, tuple[Handler, Handler]] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(EXEMPT):
            return handler
        known = self._made.get(method)
        if known is None or known[0] is not handler:
            known = self._made[method] = handler, self._around(method, handler)
        return known[1]

    def _around(self, method: str, handler: Handler) -> Handler:
        handler = awaitable(handler, shared_pool())
        behaviour = behaviour_of(handler)

        async def single(request: Any, context: Any) -> Any:
            await self._identify(method, context)
            return await behaviour(request, context)

        async def stream(request: Any, context: Any) -> AsyncGenerator[Any, None]:
            await self._identify(method, context)
            async with aclosing(behaviour(request, context)) as replies:
                async for reply in replies:
                    yield reply

        yields = inspect.isasyncgenfunction(behaviour)
        return with_behaviour(handler, stream if yields else single)

    async def _identify(self, method: str, context: Any) -> None:
        metadata = tuple(context.invocation_metadata() or ())
        caller = await proven(self._seal, self._tokens, metadata)
        self._allow(method, caller)
        CALLER.set(caller)
        inbound = INBOUND.get() or Inbound()
        INBOUND.set(replace(inbound, saying=partial(self._seal.say, caller)))
