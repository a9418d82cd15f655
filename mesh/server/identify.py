"""
Nobody is served who has not said who they are, and proven it.

    sealed by this mesh's secret .......... the caller it names, for whom a service may call
    else a bearer token that is known ..... user:<sub>, for who calls a service past the gateway
    neither ............................... UNAUTHENTICATED
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

from mesh.errors import Code, StatusError
from mesh.identity.caller import CALLER, BadToken, Caller, Verifier
from mesh.identity.jwks import JwksError
from mesh.identity.seal import BadSeal, Seal
from mesh.inbound import INBOUND, Inbound
from mesh.server.blocking import Handler, awaitable, behaviour_of, shared_pool, with_behaviour
from mesh.server.intercept import EXEMPT
from mesh.status import DOMAIN

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
        caller = await self._caller(tuple(context.invocation_metadata() or ()))
        self._allow(method, caller)
        CALLER.set(caller)
        inbound = INBOUND.get() or Inbound()
        INBOUND.set(replace(inbound, saying=partial(self._seal.say, caller)))

    async def _caller(self, metadata: tuple[tuple[str, str | bytes], ...]) -> Caller:
        try:
            caller = self._seal.heard(metadata)
            if caller is None:
                caller = await self._bearer(metadata)
        except BadSeal as error:
            raise _refused(str(error)) from error
        except BadToken as error:
            raise _refused(f"the token is refused: {error}") from error
        except JwksError as error:
            raise StatusError(
                Code.UNAVAILABLE,
                "tokens cannot be verified now",
                reason="JWKS_UNAVAILABLE",
                domain=DOMAIN,
                retry_after=1.0,
            ) from error
        return caller

    async def _bearer(self, metadata: tuple[tuple[str, str | bytes], ...]) -> Caller:
        if self._tokens is None:
            raise _refused("who calls is not said")
        given = [str(value) for name, value in metadata if name == "authorization"]
        scheme, _, token = given[0].partition(" ") if given else ("", "", "")
        if len(given) != 1 or scheme.lower() != "bearer":
            raise _refused("it needs one bearer token")
        return Caller.named("user", await self._tokens.subject(token.strip()))


def _refused(message: str) -> StatusError:
    return StatusError(Code.UNAUTHENTICATED, message, reason="UNAUTHENTICATED", domain=DOMAIN)
