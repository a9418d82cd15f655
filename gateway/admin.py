"""
What operators see, on a port of its own: never on the public one.

    /                 a small page that links the rest
    /admin/routes     every route: method, path, rpc, kind
    /admin/config     limits, policy and which guards are on; no key, no token

On a loopback address only requests for this very host are answered: a page somewhere in the web
that has its own name point here learns nothing.
"""

from __future__ import annotations

import asyncio
import html
import ipaddress
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from gateway.catalog import Catalog, Entry
from gateway.compose import PageRoute
from gateway.exchange import JSON, Answer, Receive, Scope, Send
from gateway.jsontext import dumps
from gateway.rest import Served
from gateway.status import problem
from mesh.errors import Code

POLICY = b"default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
HEADERS = [
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", POLICY),
]

Show = Callable[[], Answer]


class Admin:
    """The ASGI application of the admin port; `add` gives it another path."""

    def __init__(self, catalog: Callable[[], Catalog], config: Mapping[str, Any]) -> None:
        self.stopping = asyncio.Event()
        # Whether it listens on a loopback address.
        self.loopback = True
        self._catalog = catalog
        self._config = config
        self._shown: dict[str, Show] = {
            "/": self._page,
            "/admin/routes": self._routes,
            "/admin/config": self._configuration,
        }

    def add(self, path: str, show: Show) -> None:
        """Show something more at `path`."""
        self._shown[path] = show

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            event = await receive()
            kind = (
                "websocket.close" if scope["type"] == "websocket" else f"{event['type']}.complete"
            )
            await send({"type": kind})
            return
        answer = self._answer(scope)
        length = (b"content-length", str(len(answer.body)).encode())  # type: ignore[arg-type]
        headers = [*answer.headers, *HEADERS, length]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> Answer:
        host = next((value for name, value in scope["headers"] if name == b"host"), b"")
        show = self._shown.get(scope["path"])
        if self.loopback and not _is_here(host.decode("latin-1")):
            error = problem(Code.PERMISSION_DENIED, "asked by another name", reason="WRONG_HOST")
        elif show is None:
            error = problem(Code.NOT_FOUND, "no such path", reason="NO_ROUTE")
        elif scope["method"] not in ("GET", "HEAD"):
            allow = [("allow", "GET, HEAD")]
            error = problem(
                Code.UNIMPLEMENTED, "only GET", reason="METHOD_NOT_ALLOWED", http=405, headers=allow
            )
        else:
            return show()
        headers = [(name.encode(), value.encode()) for name, value in error.headers]
        return Answer(error.http, [*JSON, *headers], error.body("")[1])

    def _page(self) -> Answer:
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

    def _routes(self) -> Answer:
        entries = sorted(
            self._catalog().router.entries, key=lambda e: (str(e.template), e.http_method)
        )
        return Answer(200, list(JSON), dumps({"routes": [_route(entry) for entry in entries]}))

    def _configuration(self) -> Answer:
        return Answer(200, list(JSON), msgspec.json.encode(self._config, enc_hook=_plain))


def _route(entry: Entry) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "method": entry.http_method,
        "path": str(entry.template),
        "name": entry.name,
        "kind": "page" if isinstance(entry, PageRoute) else "",
    }
    if isinstance(entry, Served):
        route = entry.route
        shown |= {"kind": route.rpc.kind.value, "body": route.body, "service": route.target}
    return shown


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
