"""
A registry within one process: for tests, for programs that need no other, as the reference.

Every `memory://name` of a process is one place, as long as somebody holds it; it may be used from
several event loops at once (blocking stubs run one of their own).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from discovery.errors import DiscoveryError
from discovery.model import Endpoint, Health, Instance, Snapshot
from discovery.registry import Registration, Tags


class MemoryRegistry:
    """Instances in a dictionary; each registration is passing until told otherwise."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._index = 1
        self._instances: dict[str, Instance] = {}
        self._health: dict[str, Health] = {}
        self._keys: dict[str, bytes] = {}
        self._watchers: set[_Watcher] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Nothing to give back: registrations and watches end with their own blocks."""

    def register(self, instance: Instance) -> AbstractAsyncContextManager[Registration]:
        return self._registered(instance)

    @asynccontextmanager
    async def _registered(self, instance: Instance) -> AsyncIterator[Registration]:
        with self._changing():
            self._instances[instance.id] = instance
            self._health[instance.id] = Health.PASSING
        registration = _MemoryRegistration(self, instance)
        try:
            yield registration
        finally:
            await registration.leave()

    def remove(self, instance: Instance) -> None:
        """Forget `instance`, unless a later registration has taken its id."""
        if self._instances.get(instance.id) is instance:
            with self._changing():
                del self._instances[instance.id]
                del self._health[instance.id]

    def set_health(self, instance_id: str, health: Health) -> None:
        """What a check would have found; critical is also what maintenance looks like."""
        if instance_id not in self._instances:
            raise DiscoveryError(f"no instance {instance_id!r} is registered")
        with self._changing():
            self._health[instance_id] = health

    async def watch(self, service: str, *, tag: str | None = None) -> AsyncIterator[Snapshot]:
        with self._watching() as watcher:
            seen: Snapshot | None = None
            while True:
                snapshot = self._snapshot(service, tag)
                if not snapshot.same_endpoints(seen):
                    seen = snapshot
                    yield snapshot
                await watcher.changed()

    async def watch_services(self) -> AsyncIterator[Tags]:
        with self._watching() as watcher:
            seen: Tags | None = None
            while True:
                services = self._services()
                if services != seen:
                    seen = services
                    yield services
                await watcher.changed()

    def set_key(self, key: str, value: bytes | None) -> None:
        """Keep `value` under `key`; None takes it away."""
        with self._changing():
            if value is None:
                self._keys.pop(key, None)
            else:
                self._keys[key] = value

    async def watch_key(self, key: str) -> AsyncIterator[bytes | None]:
        with self._watching() as watcher:
            value = self._keys.get(key)
            yield value
            while True:
                await watcher.changed()
                if self._keys.get(key) != value:
                    value = self._keys.get(key)
                    yield value

    def _snapshot(self, service: str, tag: str | None) -> Snapshot:
        with self._lock:
            found = [
                _endpoint(instance, self._health[name])
                for name, instance in sorted(self._instances.items())
                if instance.service == service and (tag is None or tag in instance.tags)
            ]
            return Snapshot(service, tuple(found), self._index)

    def _services(self) -> Tags:
        with self._lock:
            tags: dict[str, set[str]] = {}
            for instance in self._instances.values():
                tags.setdefault(instance.service, set()).update(instance.tags)
            return {name: tuple(sorted(tags[name])) for name in sorted(tags)}

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:
            yield
            self._index += 1
            watchers = tuple(self._watchers)
        for watcher in watchers:
            watcher.wake()

    @contextlib.contextmanager
    def _watching(self) -> Iterator[_Watcher]:
        watcher = _Watcher(asyncio.get_running_loop())
        with self._lock:
            self._watchers.add(watcher)
        try:
            yield watcher
        finally:
            with self._lock:
                self._watchers.discard(watcher)


class _Watcher:
    """One watch on its own event loop, woken from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def wake(self) -> None:
        # A watch whose loop is gone without having been closed can see nothing any more.
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._event.set)

    async def changed(self) -> None:
        await self._event.wait()
        self._event.clear()


class _MemoryRegistration:
    def __init__(self, registry: MemoryRegistry, instance: Instance) -> None:
        self._registry = registry
        self.instance = instance

    async def leave(self) -> None:
        self._registry.remove(self.instance)


def _endpoint(instance: Instance, health: Health) -> Endpoint:
    return Endpoint(
        instance.id,
        instance.host,
        instance.port,
        instance.tags,
        dict(instance.meta),
        instance.warning_weight if health is Health.WARNING else instance.weight,
        health,
    )


def shared(name: str) -> MemoryRegistry:
    """The process's one registry of this name."""
    with _SHARED_LOCK:
        registry = _SHARED.get(name)
        if registry is None:
            registry = _SHARED[name] = MemoryRegistry()
        return registry


# A name means the same place everywhere in the process, as an address does in a network.
_SHARED: WeakValueDictionary[str, MemoryRegistry] = WeakValueDictionary()
_SHARED_LOCK = threading.Lock()
