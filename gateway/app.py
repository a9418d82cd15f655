"""
The ASGI application: one request in, one answer out, whatever goes wrong in between.

    limits -> guard -> own paths (/healthz ...) -> router -> entry.answer -> send
    Problem -> an answer; CORS beside every one

Routes come from `catalog`, which discovery swaps; a request sees one catalog from its beginning
to its end.  Errors are translated here and nowhere else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import aclosing
from http import HTTPStatus
from typing import Any

from gateway import docs, head, openapi, websocket
from gateway.body import Receive
from gateway.catalog import Catalog, Entry
from gateway.cors import Cors
from gateway.exchange import (
    JSON,
    Answer,
    Exchange,
    RawHeaders,
    Scope,
    Send,
    too_many_headers,
)
from gateway.guard import Guard
from gateway.invalid import Invalid
from gateway.jsontext import dumps
from gateway.metrics import NO_ROUTE, GatewayMetrics, route_of
from gateway.percent import PercentError
from gateway.refusals import full, no_route, wrong_method
from gateway.request_id import HEADER, Named
from gateway.rest import Served
from gateway.router import NoRoute, WrongMethod
from gateway.settings import Limits
from gateway.status import HTTP, Problem, from_invalid, problem
from gateway.watched import ClientGone
from mesh.errors import Code

log = logging.getLogger(__name__)

# No sniffing: what says JSON is never run as a page.
ALWAYS: RawHeaders = [(b"x-content-type-options", b"nosniff"), (b"server", b"proxyless")]
# What answers one of the gateway's own paths.
Own = Callable[[Exchange], Answer | Awaitable[Answer]]
SERVER_METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"


class App:
    """The gateway as ASGI sees it."""

    def __init__(
        self,
        limits: Limits,
        guard: Guard | None = None,
        cors: Cors | None = None,
    ) -> None:
        self.catalog = Catalog()
        self.limits = limits
        self._guard = guard or Guard()
        self._cors = cors or Cors()
        # Set when the gateway stops: streams end, /readyz says 503, connections are not kept.
        self.stopping = asyncio.Event()
        self.idle = asyncio.Event()
        self.idle.set()
        self.silent = asyncio.Event()
        self.silent.set()
        # Where "/" leads; set once the admin port is known.
        self.admin_url = ""
        # What counts the answers, if anything does.
        self.metrics: GatewayMetrics | None = None
        self._serving = 0
        self._streams = 0
        self._sockets = 0
        self._document = openapi.Document()
        self._own: dict[str, Own] = {
            "/": self._root,
            "/healthz": self._healthz,
            "/readyz": self._readyz,
            "/openapi.json": self._openapi,
            "/docs": self._docs,
            **docs.files(),
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
        elif scope["type"] == "http":
            exchange = Exchange(scope, receive, self.limits, self.stopping)
            with _Counted(self), Named(exchange.request_id):
                await self._http(exchange, send)
        else:
            scope = {**scope, "method": "GET"}
            exchange = Exchange(scope, receive, self.limits, self.stopping)
            with _Counted(self), Named(exchange.request_id):
                await self._socket(exchange, receive, send)

    async def _http(self, exchange: Exchange, send: Send) -> None:
        metrics = self.metrics
        began = metrics.clock() if metrics is not None else 0.0
        try:
            answer = await self._answer(exchange, self._dispatch)
        except ClientGone:
            answer = Answer(HTTP[Code.CANCELLED])  # for nobody, but a server wants an answer
        try:
            await self._send(exchange, answer, send)
        except ClientGone:
            log.debug("%s: the client left", exchange.path)
        finally:
            if metrics is not None:
                route = self._path_of(exchange)
                metrics.answered(exchange.method, route, answer.status, began)
            exchange.close()
            self._streams -= exchange.streams

    def _path_of(self, exchange: Exchange) -> str:
        """The route's template, or which of the gateway's own paths; never what a client wrote."""
        if exchange.entry is not None:
            return route_of(exchange.entry)
        return exchange.path if exchange.path in self._own else NO_ROUTE

    @property
    def serving(self) -> int:
        """How many requests are being answered."""
        return self._serving

    def _patient(self, send: Send) -> Send:
        """`send`, but a client that does not read its answer has left."""

        async def within(event: MutableMapping[str, Any]) -> None:
            try:
                async with asyncio.timeout(self.limits.write_seconds):
                    await send(event)
            except TimeoutError:
                raise ClientGone from None

        return within

    async def _socket(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        self._sockets += 1
        self.silent.clear()
        try:
            await self._conversation(exchange, receive, send)
        finally:
            self._sockets -= 1
            if not self._sockets:
                self.silent.set()

    async def _conversation(self, exchange: Exchange, receive: Receive, send: Send) -> None:
        await receive()  # websocket.connect

        async def open_socket(exchange: Exchange) -> Answer:
            if not self._cors.same_or_allowed(exchange):
                raise websocket.foreign()
            entry, _ = self._route(exchange)
            self._take_stream(exchange, entry)
            if not (isinstance(entry, Served) and websocket.serves(entry)):
                raise websocket.not_a_socket()
            await websocket.talk(exchange, entry, receive, self._patient(send))
            return Answer()

        try:
            answer = await self._answer(exchange, open_socket)
        except ClientGone:
            return
        finally:
            self._streams -= exchange.streams
        if answer.status != HTTPStatus.OK:  # refused before it was opened
            # A proxy that takes it for opened must not pass a request through what it takes for it.
            headers = [*self._told(exchange, answer), (b"connection", b"close")]
            start = {"status": answer.status, "headers": headers}
            await send({"type": "websocket.http.response.start", **start})
            await send({"type": "websocket.http.response.body", "body": answer.body})

    async def _answer(
        self, exchange: Exchange, dispatch: Callable[[Exchange], Awaitable[Answer]]
    ) -> Answer:
        try:
            self._check(exchange)
            if not (exchange.path in self._own or self._cors.preflight(exchange)):
                await self._guard.admit(exchange)
            return await dispatch(exchange)
        except Problem as error:
            shown = error
        except Invalid as error:
            shown = from_invalid(error)
        except WrongMethod:  # of a path that a WebSocket was opened at
            shown = websocket.not_a_socket()
        except PercentError as error:
            shown = from_invalid(Invalid(str(error), reason="INVALID_PATH"))
        except (ClientGone, asyncio.CancelledError):
            raise
        except Exception:  # the last edge: a bug is an answer, never a closed connection
            log.exception("%s %s failed", exchange.method, exchange.path)
            shown = problem(Code.INTERNAL, "the gateway failed", reason="INTERNAL")
        media_type, body = shown.body(exchange.accept)
        headers = [(name.encode(), value.encode("latin-1")) for name, value in shown.headers]
        return Answer(shown.http, [(b"content-type", media_type.encode()), *headers], body)

    def _check(self, exchange: Exchange) -> None:
        """Limits before any work; who asks whether the gateway is well is always told."""
        exchange.head_bytes = head.size(exchange.scope)
        if exchange.path in self._own:
            return
        if self._serving > self.limits.requests:
            raise full("requests")
        if exchange.head_bytes > self.limits.header_bytes:
            raise too_many_headers(self.limits.header_bytes)

    async def _dispatch(self, exchange: Exchange) -> Answer:
        own = self._own.get(exchange.path)
        if own is not None:
            return await self._serve_own(exchange, own)
        if exchange.path == "*":  # OPTIONS of the server itself
            return Answer(HTTPStatus.NO_CONTENT, [(b"allow", SERVER_METHODS)])
        try:
            entry, segments = self._route(exchange)
        except WrongMethod as error:
            return wrong_method(exchange, error.allow)
        self._take_stream(exchange, entry)
        return await entry.answer(exchange, segments)

    def _take_stream(self, exchange: Exchange, entry: Entry) -> None:
        """Take one of the places for streams, if it is one."""
        if isinstance(entry, Served) and entry.streams:
            if self._streams >= self.limits.streams:
                raise full("streams")
            exchange.streams = True
            self._streams += 1

    def _route(self, exchange: Exchange) -> tuple[Entry, list[str]]:
        catalog = self.catalog
        try:
            found = catalog.router.find(exchange.method, exchange.path)
        except NoRoute:
            raise no_route(catalog) from None
        exchange.entry = found[0]
        return found

    async def _serve_own(self, exchange: Exchange, own: Own) -> Answer:
        if exchange.method not in ("GET", "HEAD"):
            return wrong_method(exchange, ("GET", "HEAD", "OPTIONS"))
        answer = own(exchange)
        return answer if isinstance(answer, Answer) else await answer

    async def _send(self, exchange: Exchange, answer: Answer, send: Send) -> None:
        headers = [*self._told(exchange, answer), *self._cors.headers(exchange, answer)]
        if self.stopping.is_set():
            headers.append((b"connection", b"close"))
        start: dict[str, Any] = {"type": "http.response.start", "status": answer.status}
        if isinstance(answer.body, bytes):
            start["headers"] = [*headers, (b"content-length", b"%d" % len(answer.body))]
            await send(start)  # the server takes what is whole at once
            body = b"" if exchange.method == "HEAD" else answer.body
            await send({"type": "http.response.body", "body": body})
            return
        send = self._patient(send)
        async with aclosing(answer.body) as pieces:  # type: ignore[type-var]
            await send({**start, "headers": headers})
            if exchange.method != "HEAD":
                async with exchange.watched(after=0):
                    async for piece in pieces:
                        await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})

    def _told(self, exchange: Exchange, answer: Answer) -> RawHeaders:
        return [*answer.headers, *ALWAYS, (HEADER, exchange.request_id)]

    # -- the gateway's own paths

    def _root(self, exchange: Exchange) -> Answer:
        if not self.admin_url:
            raise no_route(self.catalog)
        return Answer(302, [(b"location", self.admin_url.encode())])

    def _healthz(self, _: Exchange) -> Answer:
        return Answer(200, list(JSON), dumps({"status": "ok"}))

    def _readyz(self, _: Exchange) -> Answer:
        state = "ready" if self.catalog.ready else "no route is known yet"
        if not self.catalog.answered:
            state = "the registry has not answered yet"
        if self.stopping.is_set():
            state = "stopping"
        body = {"status": state, "services": list(self.catalog.services)}
        return Answer(200 if state == "ready" else 503, list(JSON), dumps(body))

    async def _openapi(self, _: Exchange) -> Answer:
        document = await self._document.of(self.catalog, self._guard.shown())
        return Answer(200, list(JSON), document)

    def _docs(self, _: Exchange) -> Answer:
        return docs.page(self.catalog)


class _Counted:
    """One request among those being served."""

    def __init__(self, app: App) -> None:
        self._app = app

    def __enter__(self) -> None:
        self._app._serving += 1  # noqa: SLF001  its own
        self._app.idle.clear()

    def __exit__(self, *_: object) -> None:
        self._app._serving -= 1  # noqa: SLF001  its own
        if not self._app._serving:  # noqa: SLF001  its own
            self._app.idle.set()


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        event: Any = await receive()
        await send({"type": f"{event['type']}.complete"})
        if event["type"] == "lifespan.shutdown":
            return
