"""
What operators see, on a port of its own: never on the public one.

    /                 a small page that links the rest
    /admin/routes     every route: method, path, rpc, kind
    /admin/config     limits, policy and which guards are on; no key, no token
    /admin/strangler  how far the routes of an old service have moved; POST moves them
    /metrics          the figures of every worker, for Prometheus

On a loopback address only requests for this very host are answered: a page somewhere in the web
that has its own name point here learns nothing.  What can be changed is changed by POST of JSON,
on a loopback address alone: a page's plain form cannot send it, and for anything else its browser
asks first and is told nothing.
"""

from __future__ import annotations

import asyncio
import html
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from gateway.body import Receive, too_large
from gateway.catalog import Catalog, Entry
from gateway.compose import PageRoute
from gateway.exchange import JSON, Answer, Scope, Send, unsupported
from gateway.invalid import Invalid
from gateway.jsontext import dumps
from gateway.rest import Served
from gateway.status import Problem, from_invalid, problem
from mesh.errors import Code

log = logging.getLogger(__name__)

POLICY = b"default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY),
]

# What is shown, given the request's Accept; and what a POST's body asks for.
Show = Callable[[str], Answer | Awaitable[Answer]]
Change = Callable[[bytes], Awaitable[Answer]]
MOST_BYTES = 64 * 1024
BODY_SECONDS = 5.0


class Admin:
    """The ASGI application of the admin port; `add` gives it another path."""

    def __init__(self, catalog: Callable[[], Catalog], config: Callable[[], Any]) -> None:
        self.stopping = asyncio.Event()
        self.silent = asyncio.Event()
        self.silent.set()
        # Whether it listens on a loopback address.
        self.loopback = True
        self._catalog = catalog
        self._config = config
        self._changes: dict[str, Change] = {}
        self._shown: dict[str, Show] = {
            "/": self._page,
            "/admin/routes": self._routes,
            "/admin/config": self._configuration,
        }

    def add(self, path: str, show: Show) -> None:
        """Show something more at `path`."""
        self._shown[path] = show

    def accept(self, path: str, change: Change) -> None:
        """Let a POST to `path`, where something is shown, change it."""
        self._changes[path] = change

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            event = await receive()
            kind = (
                "websocket.close" if scope["type"] == "websocket" else f"{event['type']}.complete"
            )
            await send({"type": kind})
            return
        answer = await self._answer(scope, receive)
        length = (b"content-length", str(len(answer.body)).encode())  # type: ignore[arg-type]
        headers = [*answer.headers, *HEADERS, length]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        try:
            return await self._asked(scope, receive)
        except Problem as caught:
            error = caught
        except Invalid as caught:
            error = from_invalid(caught)
        except Exception:  # the last edge: a bug is an answer, never a closed connection
            log.exception("%s %s failed", scope["method"], scope["path"])
            error = problem(Code.INTERNAL, "the admin port failed", reason="INTERNAL")
        headers = [(name.encode(), value.encode()) for name, value in error.headers]
        return Answer(error.http, [*JSON, *headers], error.body("")[1])

    async def _asked(self, scope: Scope, receive: Receive) -> Answer:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        show = self._shown.get(scope["path"])
        change = self._changes.get(scope["path"])
        if self.loopback and not _is_here(host.decode("latin-1")):
            raise problem(Code.PERMISSION_DENIED, "asked by another name", reason="WRONG_HOST")
        if show is None:
            raise problem(Code.NOT_FOUND, "no such path", reason="NO_ROUTE")
        if scope["method"] == "POST" and change is not None:
            return await change(await self._body(scope, receive))
        if scope["method"] not in ("GET", "HEAD"):
            allow = [("allow", "GET, HEAD, POST" if change is not None else "GET, HEAD")]
            raise problem(
                Code.UNIMPLEMENTED, "only GET", reason="METHOD_NOT_ALLOWED", http=405, headers=allow
            )
        accept = next((value for name, value in scope["headers"] if name == b"accept"), b"")
        found = show(accept.decode("latin-1"))
        return found if isinstance(found, Answer) else await found

    async def _body(self, scope: Scope, receive: Receive) -> bytes:
        """A change's body, once it is sure that no page in some browser sends it."""
        if not self.loopback:
            raise problem(
                Code.PERMISSION_DENIED,
                "changes are taken on a loopback address alone",
                reason="NOT_LOOPBACK",
            )
        headers = dict(scope["headers"])
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind != b"application/json":
            raise unsupported("a change is sent as application/json")
        own = b"http://" + headers.get(b"host", b"")
        if headers.get(b"origin", own) != own:
            raise problem(Code.PERMISSION_DENIED, "asked by a page", reason="WRONG_ORIGIN")
        body, more = b"", True
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while more:
                    event = await receive()
                    body += event.get("body", b"")
                    more = event.get("more_body", False)
                    if len(body) > MOST_BYTES:
                        raise too_large(MOST_BYTES)
        except TimeoutError:
            raise problem(
                Code.DEADLINE_EXCEEDED, "the body did not arrive", reason="BODY_TOO_SLOW", http=408
            ) from None
        return body

    def _page(self, _: str) -> Answer:
        services = ", ".join(self._catalog().services) or "none yet"
        links = "".join(
            f'<li><a href="{html.escape(path)}">{html.escape(path)}</a>'
            for path in self._shown
            if path != "/"
        )
        body = (
            "<!doctype html><html lang=en><meta charset=utf-8><title>Gateway</title>"
            f"<h1>Gateway</h1><p>Services: {html.escape(services)}</p><ul>{links}</ul></html>"
        )
        return Answer(200, [(b"content-type", b"text/html; charset=utf-8")], body.encode())

    def _routes(self, _: str) -> Answer:
        entries = sorted(
            self._catalog().router.entries, key=lambda e: (str(e.template), e.http_method)
        )
        return Answer(200, list(JSON), dumps({"routes": [_route(entry) for entry in entries]}))

    def _configuration(self, _: str) -> Answer:
        return shown(self._config())


def shown(value: Any) -> Answer:
    """A value as JSON."""
    return Answer(200, list(JSON), msgspec.json.encode(value, enc_hook=_plain))


def _route(entry: Entry) -> dict[str, Any]:
    found: dict[str, Any] = {
        "method": entry.http_method,
        "path": str(entry.template),
        "name": entry.name,
        "kind": "page" if isinstance(entry, PageRoute) else "",
    }
    if isinstance(entry, Served):
        route = entry.route
        found |= {"kind": route.rpc.kind.value, "body": route.body, "service": route.target}
    return found


def _plain(value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else repr(value)


def _is_here(host: str) -> bool:
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost":
        return True
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    return True
