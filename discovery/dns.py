"""
A registry that is a name: every address it resolves to is an endpoint, resolved again and again.

    dns://orders.internal:50051                       every service is there
    dns://{service}.internal:50051?interval=5         each under a name of its own

A name that does not resolve keeps the last good addresses, with `stale_since`: resolvers fail more
often than all servers of a service go away at once.  Registering changes nothing.
"""

from __future__ import annotations

import asyncio
import logging
import random
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, parse_qs

from discovery.errors import DiscoveryError
from discovery.model import Endpoint, Instance, Snapshot
from discovery.pace import Backoff
from discovery.registry import Registration, Tags
from discovery.static import DEFAULT_TAGS, listed

LOG = logging.getLogger(__name__)

INTERVAL_SECONDS = 5.0
RESOLVE_SECONDS = 5.0

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def addresses(host: str, port: int) -> Sequence[str]:
    """What the machine's resolver says; raises OSError where it says nothing."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(sockaddr[0]) for *_, sockaddr in found]


class DnsRegistry:
    """`host` may hold "{service}"; `service` limits the registry to one."""

    def __init__(
        self,
        host: str,
        port: int,
        *,
        service: str = "",
        interval: float = INTERVAL_SECONDS,
        resolve: Resolve = addresses,
    ) -> None:
        self._host = host
        self._port = port
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
                    found = await self._resolve(host, self._port)
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
                snapshot = Snapshot(service, _endpoints(found, self._port))
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


def _endpoints(found: Sequence[str], port: int) -> tuple[Endpoint, ...]:
    return tuple(
        Endpoint(f"{address}:{port}", address, port, DEFAULT_TAGS) for address in sorted(set(found))
    )


def dns_registry(url: str, parts: SplitResult) -> DnsRegistry:
    options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    for name in sorted(options.keys() - {"service", "interval"}):
        raise DiscoveryError(f"registry {url!r}: {name!r} is not service or interval")
    if not parts.hostname or not parts.port:
        raise DiscoveryError(f"registry {url!r}: is not dns://host:port")
    try:
        interval = float(options.get("interval", INTERVAL_SECONDS))
    except ValueError:
        interval = 0.0
    if not 0.0 < interval <= 3600.0:
        raise DiscoveryError(
            f"registry {url!r}: interval {options['interval']!r} is not between 0 and 3600 seconds"
        )
    return DnsRegistry(
        parts.hostname, parts.port, service=options.get("service", ""), interval=interval
    )
