"""
What every registry can do, and which one a URL names.

    consul://127.0.0.1:8500?dc=&token=      Consul, or the embedded agent that speaks its API
    memory://name                           one process: for tests and small programs
    static://10.0.0.1:50051,10.0.0.2:50051?service=orders      a list that never changes
    static:///etc/mesh/servers.json         a file, read again when it changes
    dns://orders.internal:50051?service=orders                 a name, resolved again and again
    dns://{service}.service.consul?server=127.0.0.1:8600       its SRV records

A change here keeps two rules: a watch yields the whole truth each time, and yields at once when
it starts; a registry that cannot be asked keeps what it last knew and says since when.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Protocol, Self, runtime_checkable
from urllib.parse import urlsplit

from discovery.errors import DiscoveryError
from discovery.model import Instance, Snapshot

Tags = Mapping[str, tuple[str, ...]]
DEFAULT_URL = "consul://127.0.0.1:8500"


class Registration(Protocol):
    """An instance that is kept registered until it leaves."""

    @property
    def instance(self) -> Instance: ...

    async def leave(self) -> None:
        """Deregister now, within a bounded time; leaving twice is leaving once."""
        ...


class Registry(Protocol):
    """Where servers say where they are and clients learn it; entered before use."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def register(self, instance: Instance) -> AbstractAsyncContextManager[Registration]:
        """Registered inside the `async with`, again whenever the registry forgot it."""
        ...

    def watch(self, service: str, *, tag: str | None = None) -> AsyncIterator[Snapshot]:
        """All endpoints of `service` at once (maybe none), then again after every change."""
        ...

    def watch_services(self) -> AsyncIterator[Tags]:
        """Every service's name and tags at once, then again after every change."""
        ...


@runtime_checkable
class Keys(Protocol):
    """What a registry that keeps keys and values can do besides: Consul, and memory."""

    def watch_key(self, key: str) -> AsyncIterator[bytes | None]:
        """The value of `key` at once, None while it is not there, then again after every change."""
        ...


def connect(url: str, *, token: str = "") -> Registry:
    """
    The registry that `url` names, not yet connected; `token` is Consul's ACL token.

    Nothing is imported that the scheme does not need.
    """
    try:
        parts = urlsplit(url)
        # It raises for a port that is no number; a list has many.
        port = None if parts.scheme == "static" else parts.port
    except ValueError as error:
        raise DiscoveryError(f"registry {url!r}: {error}") from error
    match parts.scheme:
        case "consul":
            from discovery.consul.registry import ConsulRegistry  # noqa: PLC0415
            from discovery.consul.settings import from_url  # noqa: PLC0415

            return ConsulRegistry(from_url(url, parts, port, token=token))
        case "memory":
            from discovery.memory import shared  # noqa: PLC0415

            return shared(parts.netloc + parts.path)
        case "static":
            from discovery.static import static_registry  # noqa: PLC0415

            return static_registry(url, parts)
        case "dns":
            from discovery.dns import dns_registry  # noqa: PLC0415

            return dns_registry(url, parts)
    raise DiscoveryError(
        f"registry {url!r}: the scheme {parts.scheme!r} is not consul, memory, static or dns"
    )


def from_environment(environ: Mapping[str, str] = os.environ) -> Registry:
    """
    The registry the environment names: the only reader of these variables.

    MESH_REGISTRY (a URL) beats CONSUL_HTTP_ADDR; without either it is consul://127.0.0.1:8500.
    CONSUL_HTTP_TOKEN, CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_SSL, CONSUL_CACERT and the other
    CONSUL_ variables are read as Consul's own tools read them.
    """
    url = environ.get("MESH_REGISTRY", "")
    if url and not url.startswith("consul:"):
        try:
            return connect(url)
        except DiscoveryError as error:
            raise DiscoveryError(f"MESH_REGISTRY: {error}") from error

    from discovery.consul.registry import ConsulRegistry  # noqa: PLC0415
    from discovery.consul.settings import from_variables  # noqa: PLC0415

    return ConsulRegistry(from_variables(environ, url=url))
