"""
One route of one rpc, served: bind, call through the mesh, write the reply.

The mesh channel has the deadline, the retries and the breaker; nothing here repeats a call.  What
may be repeated it knows from the reflected descriptors and from the request's idempotency key.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import grpc.aio
from google.protobuf import message_factory

from gateway import headers, stream, upload
from gateway.bind import Binder
from gateway.body import too_large
from gateway.exchange import JSON, Answer, Exchange
from gateway.jsontext import dumps
from gateway.routes import HTTP_BODY, Route
from gateway.rule import Template
from gateway.status import Problem, from_rpc, problem
from gateway.upstream import Upstream
from mesh.errors import Code

log = logging.getLogger(__name__)

Shifting = Callable[[Exchange, list[str], "Served"], Awaitable[Answer]]


class Served:
    """A route with everything it needs to be called; made when the descriptors are loaded."""

    def __init__(self, route: Route, channel: Upstream) -> None:
        self.route = route
        self.http_method = route.http_method
        self.template: Template = route.template
        self.name = route.name
        self.binder = Binder(route)
        rpc = route.rpc
        # Whether it may go on for as long as the client likes.
        self.streams = rpc.client_streaming or rpc.server_streaming
        self._codec = rpc.contract.codec
        reply = route.response_body and rpc.output.fields_by_name[route.response_body]
        self._part = reply or None
        holder = rpc.output if not reply else reply.message_type
        self.raw = holder is not None and holder.full_name == HTTP_BODY
        # Who decides whether the rpc is asked at all; see gateway.strangler.
        self.shift: Shifting | None = None
        classes = map(message_factory.GetMessageClass, (rpc.input, rpc.output))
        self.call = channel.stub(rpc, *classes)
        self._answer = {
            (False, False): self._unary,
            (False, True): self._server_stream,
            (True, False): self._client_stream,
            (True, True): self._upgrade,
        }[rpc.client_streaming, rpc.server_streaming]

    async def answer(self, exchange: Exchange, segments: list[str]) -> Answer:
        """The answer to one request, or the Problem or Invalid that it is."""
        if self.shift is not None:
            return await self.shift(exchange, segments, self)
        return await self._answer(exchange, segments)

    async def served(self, exchange: Exchange, segments: list[str]) -> Answer:
        """The same from the rpc itself, whoever else may have a part in the route."""
        return await self._answer(exchange, segments)

    def write(self, reply: Any) -> Any:
        """The JSON of a reply, or of the part of it that the annotation names."""
        try:
            written = self._codec.write(reply)
        except ValueError as error:
            log.exception("%s replied what JSON cannot say", self.name)
            raise problem(
                Code.INTERNAL, "the reply cannot be said in JSON", reason="UNPRINTABLE_REPLY"
            ) from error
        return written if self._part is None else written.get(self._part.json_name)

    def failed(self, error: grpc.aio.AioRpcError) -> Problem:
        return from_rpc(error, self._codec, self.name)

    async def _request(self, exchange: Exchange, segments: list[str]) -> Any:
        raw = self.binder.raw
        body = await exchange.body(raw=raw)
        media_type = exchange.header(b"content-type") if raw else ""
        message = self.binder.bind(segments, exchange.query, body, media_type)
        # A few JSON bytes can be more on the wire; gRPC would say RESOURCE_EXHAUSTED, which is 429.
        if len(body) > 1024 and message.ByteSize() > exchange.limits.body_bytes:
            raise too_large(exchange.limits.body_bytes)
        return message

    async def _unary(self, exchange: Exchange, segments: list[str]) -> Answer:
        request = await self._request(exchange, segments)
        call = self.call(
            request,
            timeout=exchange.timeout(exchange.limits.timeout),
            metadata=exchange.metadata(),
        )
        return await self._reply(exchange, call)

    async def _client_stream(self, exchange: Exchange, segments: list[str]) -> Answer:
        sending = upload.Upload(exchange, self.binder)
        call = self.call(
            sending.messages(),
            timeout=exchange.timeout(exchange.limits.timeout),
            metadata=exchange.metadata(),
        )
        sending.call = call
        return await self._reply(exchange, call, sending)

    async def _reply(
        self, exchange: Exchange, call: Any, sending: upload.Upload | None = None
    ) -> Answer:
        try:
            async with exchange.watched(body_read=sending.read if sending else None):
                reply = await call
                extra = headers.response(
                    await call.initial_metadata(), await call.trailing_metadata()
                )
        except grpc.aio.AioRpcError as error:
            raise self.failed(error) from error
        except BaseException:
            if sending is not None and sending.failure is not None:
                raise sending.failure from None
            raise
        finally:
            call.cancel()
        if self.raw:
            body = reply if self._part is None else getattr(reply, self._part.name)
            kind = headers.media_type(body.content_type)
            return Answer(200, [(b"content-type", kind), *extra], body.data)
        return Answer(200, [*JSON, *extra], dumps(self.write(reply)))

    async def _server_stream(self, exchange: Exchange, segments: list[str]) -> Answer:
        request = await self._request(exchange, segments)
        call = self.call(request, timeout=exchange.timeout(None), metadata=exchange.metadata())
        if self.raw:
            part = "" if self._part is None else self._part.name
            return await stream.content(exchange, call, part, self.failed)
        return await stream.answer(exchange, call, self.write, self.failed)

    async def _upgrade(self, exchange: Exchange, segments: list[str]) -> Answer:
        raise problem(
            Code.FAILED_PRECONDITION,
            "this method talks both ways: open it as a WebSocket",
            reason="UPGRADE_REQUIRED",
            http=426,
            headers=[
                *(("upgrade", "websocket"), ("connection", "upgrade")),
                ("sec-websocket-version", "13"),
            ],
        )
