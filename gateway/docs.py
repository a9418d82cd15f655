"""
/docs: Swagger UI from our own files, so that it works without any other host.

    /docs                    the page; for who runs no script, a table of all operations
    /docs/<name>             the files it loads, from gateway/pages/

The page has no inline script or style: its content security policy allows this gateway alone.
"""

from __future__ import annotations

import hashlib
import html
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path

from gateway.catalog import Catalog
from gateway.exchange import Answer, Exchange
from gateway.openapi import comment_of, summary_of

PAGES = Path(__file__).parent / "pages"
FILES = {
    "swagger-ui-bundle.js": b"text/javascript; charset=utf-8",
    "start.js": b"text/javascript; charset=utf-8",
    "swagger-ui.css": b"text/css; charset=utf-8",
    "favicon.svg": b"image/svg+xml",
}
POLICY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    b"connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HTML = (
    "<!doctype html><html lang=en><meta charset=utf-8><title>API</title>"
    '<meta name=viewport content="width=device-width, initial-scale=1">'
    '<link rel=icon href="/docs/favicon.svg"><link rel=stylesheet href="/docs/swagger-ui.css">'
    "<div id=swagger-ui></div>"
    "<noscript><h1>API</h1><p>The whole contract: <a href=/openapi.json>openapi.json</a></p>"
    "<table>{rows}</table></noscript>"
    '<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script>'
    "</html>"
)


def page(catalog: Catalog) -> Answer:
    """The page of everything that is served."""
    rows = "".join(
        f"<tr><td><code>{html.escape(entry.http_method)}</code></td>"
        f"<td><code>{html.escape(str(entry.template))}</code></td>"
        f"<td>{html.escape(summary_of(comment_of(entry)))}</td></tr>"
        for entry in sorted(catalog.router.entries, key=lambda entry: str(entry.template))
    )
    headers = [
        (b"content-type", b"text/html; charset=utf-8"),
        (b"content-security-policy", POLICY),
        (b"cache-control", b"no-cache"),
    ]
    return Answer(200, headers, HTML.replace("{rows}", rows).encode())


def files() -> dict[str, Callable[[Exchange], Answer]]:
    """What answers each file's path."""
    return {f"/docs/{name}": _file(name, kind) for name, kind in FILES.items()}


def _file(name: str, kind: bytes) -> Callable[[Exchange], Answer]:
    def answer(exchange: Exchange) -> Answer:
        content, tag = _content(name)
        headers = [(b"content-type", kind), (b"etag", tag), (b"cache-control", b"no-cache")]
        if exchange.header(b"if-none-match").encode("latin-1") == tag:
            return Answer(HTTPStatus.NOT_MODIFIED, headers)
        return Answer(200, headers, content)

    return answer


@lru_cache(maxsize=len(FILES))
def _content(name: str) -> tuple[bytes, bytes]:
    """A file's bytes and its ETag."""
    content = (PAGES / name).read_bytes()
    return content, b'"%s"' % hashlib.sha256(content).hexdigest()[:32].encode()
