"""
A registry that is a name: every address it resolves to is an endpoint, resolved again and again.

    dns://orders.internal:50051                       every service is there
    dns://{service}.internal:50051?interval=5         each under a name of its own
    dns://_grpc._tcp.{service}.internal               SRV records say the ports and the weights
    dns://{service}.service.consul?server=127.0.0.1:8600      of a name server of one's own

With a port a name is resolved as any other of the machine, by its addresses; without one its SRV
records are read.  A name that does not resolve keeps the last good servers, with `stale_since`:
resolvers fail more often than all servers of a service go away at once.  Registering changes
nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from ipaddress import ip_address
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, parse_qs, urlsplit

from discovery.errors import DiscoveryError
from discovery.model import Endpoint, Instance, Snapshot
from discovery.pace import Backoff
from discovery.registry import Registration, Tags
from discovery.static import DEFAULT_TAGS, listed

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
RESOLVE_SECONDS = 5.0

# The endpoints of a name; raises OSError where the name says nothing.
Resolve = Callable[[str], Awaitable[Sequence[Endpoint]]]


class Addresses:
    """What the machine's resolver says, each address at one `port`."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __call__(self, name: str) -> Sequence[Endpoint]:
        loop, port = asyncio.get_running_loop(), self._port
        found = await loop.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        hosts = {str(sockaddr[0]) for *_, sockaddr in found}
        return [Endpoint(f"{host}:{port}", host, port, DEFAULT_TAGS) for host in hosts]


class DnsRegistry:
    """`host` may hold "{service}"; `service` limits the registry to one."""

    def __init__(
        self,
        host: str,
        resolve: Resolve,
        *,
        service: str = "",
        interval: float = INTERVAL_SECONDS,
    ) -> None:
        self._host = host
        self._service = service
        self._interval = interval
        self._resolve = resolve

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing is held open."""

    def register(self, instance: Instance) -> AbstractAsyncContextManager[Registration]:
        return listed(instance)

    async def watch(self, service: str, *, tag: str | None = None) -> AsyncIterator[Snapshot]:
        """DNS knows no tags, so `tag` excludes nobody."""
        seen: Snapshot | None = None
        backoff = Backoff(most=self._interval)
        rng = random.Random()
        host = self._host.replace("{service}", service)
        while self._service in ("", service):
            try:
                async with asyncio.timeout(RESOLVE_SECONDS):
                    found = await self._resolve(host)
                if not found:
                    raise OSError("no addresses")
            except OSError as error:  # TimeoutError and gaierror are OSErrors
                wait = backoff.failed(rng)
                if seen is None or seen.stale_since is None:
                    LOG.warning("dns: %s does not resolve: %s", host, error or "no answer")
                    known = seen.endpoints if seen is not None else ()
                    seen = Snapshot(service, known, 0, time.time())
                    yield seen
            else:
                backoff.succeeded()
                wait = self._interval
                snapshot = Snapshot(service, _endpoints(found))
                if snapshot != seen:
                    seen = snapshot
                    yield snapshot
            await asyncio.sleep(wait)
        yield Snapshot(service)
        await asyncio.Event().wait()  # until cancelled: another service's name never changes

    async def watch_services(self) -> AsyncIterator[Tags]:
        """Only the service that the URL names: a resolver cannot list names."""
        yield {self._service: DEFAULT_TAGS} if self._service else {}
        await asyncio.Event().wait()


def _endpoints(found: Sequence[Endpoint]) -> tuple[Endpoint, ...]:
    """Each address once, in an order that is no change from one answer to the next."""
    known = {endpoint.id: endpoint for endpoint in reversed(found)}
    return tuple(known[name] for name in sorted(known))


def dns_registry(url: str, parts: SplitResult) -> DnsRegistry:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    for name in sorted(options.keys() - {"service", "interval", "server"}):
        raise DiscoveryError(f"registry {url!r}: {name!r} is not service, interval or server")
    if not parts.hostname or parts.port == 0:
        raise DiscoveryError(f"registry {url!r}: is not dns://host:port or dns://name")
    try:
        interval = float(options.get("interval", INTERVAL_SECONDS))
    except ValueError:
        interval = 0.0
    if not 0.0 < interval <= 3600.0:
        raise DiscoveryError(
            f"registry {url!r}: interval {options['interval']!r} is not between 0 and 3600 seconds"
        )
    return DnsRegistry(
        parts.hostname,
        _resolve(url, parts.port, options.get("server", "")),
        service=options.get("service", ""),
        interval=interval,
    )


def _resolve(url: str, port: int | None, server: str) -> Resolve:
    if port is not None:
        if server:
            raise DiscoveryError(f"registry {url!r}: server is for names without a port")
        return Addresses(port)
    from discovery.srv import Records  # noqa: PLC0415 - 6 MB that only SRV records need

    if not server:
        return Records()
    at = urlsplit(f"dns://{server}")
    try:
        host, where = at.hostname or "", at.port or 53
        ip_address(host)
    except ValueError as error:
        raise DiscoveryError(f"registry {url!r}: server {server!r}: {error}") from error
    return Records(host, where)
