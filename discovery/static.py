"""
A registry that is a list: in the URL, or in a file that is read again when it changes.

    static://10.0.0.1:50051,10.0.0.2:50051                   every service is there
    static://10.0.0.1:50051?service=orders&tag=v2            this one is, with these tags
    static:///etc/mesh/servers.json                          {"orders": ["10.0.0.1:50051",
        {"host": "10.0.0.2", "port": 50051, "tags": ["v2"], "meta": {"zone": "b"}, "weight": 3}]}

A file that is gone or wrong keeps the last good list, with `stale_since`.  Registering is accepted
and changes nothing: who is where is decided by whoever writes the list.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import SplitResult, parse_qs, unquote

import msgspec

from discovery.errors import DiscoveryError
from discovery.model import Endpoint, Instance, Snapshot
from discovery.registry import Registration, Tags

LOG = logging.getLogger(__name__)

POLL_SECONDS = 0.5
# What a service is found by, as a registration of mesh.Server would have it.
DEFAULT_TAGS = ("grpc",)

Servers = Mapping[str, tuple[Endpoint, ...]]


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the file, where "host:port" does not say enough."""

    host: str
    port: int
    tags: tuple[str, ...] = DEFAULT_TAGS
    meta: dict[str, str] = field(default_factory=dict)
    weight: int = 1


_FILE = msgspec.json.Decoder(dict[str, list[str | Server]])


class StaticRegistry:
    """`servers` by service; `anything` answers for services that are not named."""

    def __init__(
        self,
        servers: Servers,
        *,
        anything: tuple[Endpoint, ...] = (),
        file: Path | None = None,
    ) -> None:
        self._servers = servers
        self._anything = anything
        self._file = file
        self._stamp = _stamp(file)
        self._index = 1
        self._stale_since: float | None = None

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
        seen: Snapshot | None = None
        while True:
            found = self._servers.get(service, self._anything)
            tagged = tuple(one for one in found if tag is None or tag in one.tags)
            snapshot = Snapshot(service, tagged, self._index, self._stale_since)
            if seen is None or replace(snapshot, index=seen.index) != seen:
                seen = snapshot
                yield snapshot
            await self._changed()

    async def watch_services(self) -> AsyncIterator[Tags]:
        seen: Tags | None = None
        while True:
            tags = {
                name: tuple(sorted({tag for endpoint in found for tag in endpoint.tags}))
                for name, found in sorted(self._servers.items())
            }
            if tags != seen:
                seen = tags
                yield tags
            await self._changed()

    async def _changed(self) -> None:
        before = (self._index, self._stale_since)
        while True:
            if self._file is None:
                await asyncio.Event().wait()  # until cancelled: a list in a URL never changes
            await asyncio.sleep(POLL_SECONDS)
            self._read_again()
            if before != (self._index, self._stale_since):
                return

    def _read_again(self) -> None:
        """Several watches share one reading: whoever comes first after a change."""
        assert self._file is not None
        stamp = _stamp(self._file)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._servers = read(self._file)
        except DiscoveryError as error:
            LOG.warning("%s; the last good list stays", error)
            self._stale_since = self._stale_since or time.time()
        else:
            self._index += 1
            self._stale_since = None


def static_registry(url: str, parts: SplitResult) -> StaticRegistry:
    """The registry of a static:// URL; a file is read at once, and must be right then."""
    if not parts.netloc:
        file = Path(unquote(parts.path))
        return StaticRegistry(read(file), file=file)
    options = parse_qs(parts.query)
    for name in sorted(options.keys() - {"service", "tag"}):
        raise DiscoveryError(f"registry {url!r}: {name!r} is not service or tag")
    tags = tuple(options.get("tag", DEFAULT_TAGS))
    try:
        found = tuple(_endpoint(address, tags) for address in parts.netloc.split(","))
    except ValueError as error:
        raise DiscoveryError(f"registry {url!r}: {error}") from error
    if "service" in options:
        return StaticRegistry(dict.fromkeys(options["service"], found))
    return StaticRegistry({}, anything=found)


def read(file: Path) -> Servers:
    """The servers of a file; DiscoveryError names the file and what is wrong where."""
    try:
        found = _FILE.decode(file.read_bytes())
        return {
            service: tuple(sorted(map(_endpoint, servers), key=lambda endpoint: endpoint.id))
            for service, servers in found.items()
        }
    except (OSError, ValueError) as error:  # msgspec's errors are ValueErrors
        raise DiscoveryError(f"servers in {str(file)!r}: {error}") from error


def _endpoint(server: str | Server, tags: tuple[str, ...] = DEFAULT_TAGS) -> Endpoint:
    if isinstance(server, Server):
        # Instance knows what an address and a weight may be.
        Instance("static", server.host, server.port, weight=server.weight)
        address = f"{server.host}:{server.port}"
        return Endpoint(address, server.host, server.port, server.tags, server.meta, server.weight)
    host, separator, port = server.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{server!r} is not host:port")
    return Endpoint(server, host.removeprefix("[").removesuffix("]"), int(port), tags)


def _stamp(file: Path | None) -> tuple[int, int, int] | None:
    """Changes whenever the file is written or replaced; None while it is not there."""
    try:
        found = file.stat() if file is not None else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found is not None else None


@dataclass(slots=True)
class _Listed:
    instance: Instance

    async def leave(self) -> None:
        """Nobody was told, so nobody is told again."""


@asynccontextmanager
async def listed(instance: Instance) -> AsyncIterator[Registration]:
    yield _Listed(instance)
