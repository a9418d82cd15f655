"""
What a channel is asked for: a service, and the registry that knows where it is.

    orders                                  the registry of the environment
    consul://127.0.0.1:8500/orders?tag=v2   this registry, only instances with the tag
    memory://name/orders                    the process's own registry of that name
    static://10.0.0.1:50051,10.0.0.2:50051  exactly these servers
    127.0.0.1:50051                         exactly this one
    dns://orders.internal:50051             whatever the name resolves to
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, urlencode, urlsplit


@dataclass(frozen=True, slots=True)
class Target:
    """`registry` is the URL of the registry, None for the environment's."""

    service: str
    registry: str | None = None
    tag: str | None = None


def parse(text: str) -> Target:
    """Read a channel's target; ValueError names what is wrong with it."""
    if "://" not in text:
        if ":" in text:
            return Target(text, f"static://{text}")
        name, _, words = text.partition("?")
        if not name or "/" in name:
            raise ValueError(f"target: {text!r} is neither a service name nor a URL")
        return Target(name, None, dict(parse_qsl(words)).get("tag"))
    parts = urlsplit(text)
    query = dict(parse_qsl(parts.query))
    tag = query.pop("tag", None)
    if parts.scheme in ("static", "dns"):
        # These name servers, not a registry: the service is whatever the caller calls them.
        service = query.get("service") or parts.netloc or parts.path
        registry = _url(parts, parts.path, query)
    else:
        path, _, service = parts.path.rpartition("/")
        registry = _url(parts, path, query)
    if not service:
        raise ValueError(f"target: {text!r} names no service: {parts.scheme}://host:port/SERVICE")
    return Target(service, registry, tag)


def _url(parts: SplitResult, path: str, query: dict[str, str]) -> str:
    words = f"?{urlencode(query)}" if query else ""
    return f"{parts.scheme}://{parts.netloc}{path}{words}"
