"""
A method that talks both ways, as a WebSocket: one JSON message a text frame, each way.

    close 1000   the rpc ended OK          close 4000 + code   with that status
    close 1009   a message over the limit  close 1003          a frame that is not text

A client that closes or goes away cancels the rpc: a WebSocket cannot say "no more from me, but go
on".  What cannot be opened is answered as the HTTP request that it still is.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc.aio

from gateway.body import Receive
from gateway.exchange import Exchange, Send
from gateway.invalid import Invalid
from gateway.jsontext import dumps, loads
from gateway.request_id import HEADER
from gateway.rest import Served
from gateway.status import Problem, from_invalid, problem
from gateway.watched import ClientGone
from mesh.errors import Code

log = logging.getLogger(__name__)

OK, NOT_TEXT, TOO_BIG = 1000, 1003, 1009
# Codes from 4000 on belong to applications: gRPC's are added to it.
STATUS = 4000
# A close frame holds 125 bytes, two of them the code.
REASON_BYTES = 123


class Closed(Exception):
    """Why the socket is closed: the frame's code and reason."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(code, reason)
        self.code = code
        self.reason = reason.encode()[:REASON_BYTES].decode(errors="ignore")

    @classmethod
    def by(cls, error: Problem) -> Closed:
        return cls(STATUS + error.status.code, error.status.message)


def serves(entry: object) -> bool:
    """Whether an entry of the router can be opened as a WebSocket."""
    return (
        isinstance(entry, Served)
        and entry.route.rpc.client_streaming
        and entry.route.rpc.server_streaming
    )


async def talk(exchange: Exchange, entry: Served, receive: Receive, send: Send) -> None:
    """Accept, then carry messages both ways until one side has ended."""
    entry.binder.no_query(exchange.query)
    metadata, timeout = exchange.metadata(), exchange.timeout(None)
    await send({"type": "websocket.accept", "headers": [(HEADER, exchange.request_id)]})
    heard = _Heard(exchange, entry, receive)
    call = entry.call(heard.messages(), timeout=timeout, metadata=metadata)
    saying = asyncio.ensure_future(_say(entry, call, send))
    hearing = asyncio.ensure_future(heard.listen())
    stopping = asyncio.ensure_future(exchange.stopping.wait())
    try:
        await asyncio.wait([saying, hearing, stopping], return_when=asyncio.FIRST_COMPLETED)
        ended = Closed(STATUS + Code.UNAVAILABLE, "the gateway is stopping")
        try:
            if saying.done():  # what the service said last counts more
                saying.result()
            if hearing.done():
                hearing.result()
        except Closed as closed:
            ended = closed
        except ClientGone:
            raise
        except Exception:  # it is a socket by now: a bug is a close frame
            log.exception("%s failed", entry.name)
            ended = Closed(STATUS + Code.INTERNAL, "the gateway failed")
        hearing.cancel()
        await asyncio.wait([hearing])
        await send({"type": "websocket.close", "code": ended.code, "reason": ended.reason})
    finally:
        for task in (saying, hearing, stopping):
            task.cancel()
        call.cancel()
        await asyncio.gather(saying, hearing, stopping, return_exceptions=True)


async def _say(entry: Served, call: Any, send: Send) -> None:
    """Send every reply; ends with Closed."""
    try:
        while True:
            reply = await call.read()
            if reply is grpc.aio.EOF:
                raise Closed(OK)
            text = dumps(entry.write(reply)).decode()
            await send({"type": "websocket.send", "text": text})
    except grpc.aio.AioRpcError as error:
        raise Closed.by(entry.failed(error)) from error
    except Problem as error:
        raise Closed.by(error) from error


class _Heard:
    """What the client says, read one message ahead of the service at most."""

    def __init__(self, exchange: Exchange, entry: Served, receive: Receive) -> None:
        self._limit = exchange.limits.body_bytes
        self._entry = entry
        self._receive = receive
        self._queue: asyncio.Queue[Any] = asyncio.Queue(maxsize=1)

    async def listen(self) -> None:
        """Queue every message; ends with Closed or ClientGone."""
        while True:
            event = await self._receive()
            if event["type"] == "websocket.disconnect":
                raise ClientGone
            await self._queue.put(self._message(event))

    async def messages(self) -> AsyncIterator[Any]:
        while True:
            yield await self._queue.get()

    def _message(self, event: Mapping[str, Any]) -> Any:
        text = event.get("text")
        if text is None:
            raise Closed(NOT_TEXT, "one JSON message a text frame")
        if len(text) > self._limit:
            raise Closed(TOO_BIG, f"a message is larger than {self._limit} bytes")
        try:
            return self._entry.binder.element(loads(text))
        except Invalid as error:
            raise Closed.by(from_invalid(error)) from error


def not_a_socket() -> Problem:
    """What a WebSocket is told where an ordinary request would be right."""
    return problem(
        Code.FAILED_PRECONDITION,
        "this path is no WebSocket",
        reason="NO_WEBSOCKET",
        http=400,
    )


def foreign() -> Problem:
    """What a page of another origin is told, unless CORS lets it in."""
    return problem(
        Code.PERMISSION_DENIED,
        "pages of this origin may not open it",
        reason="ORIGIN_NOT_ALLOWED",
    )
