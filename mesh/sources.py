"""
Policies that change while they are in force: read from a file, or from a key of the registry.

    mesh.Channel("orders", mesh.PolicyFile("/etc/mesh/orders.json"))
    mesh.Channel("orders", mesh.PolicyKey("mesh/policies/orders"))         Consul's KV store
    mesh.guard(mesh.PolicyFile("/etc/mesh/legacy.json"), "legacy")         also interceptors

A change is in force for the calls that start after it, within about a second for a file, at once
for a key.  What makes no sense is refused whole: the last good policy stays, the log says once
which field of which source and why, and `channel.policy_error` says so until it is mended.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from os import PathLike
from pathlib import Path
from typing import Protocol, runtime_checkable

from discovery.registry import Keys, Registry
from mesh.errors import PolicyError
from mesh.policy.config import Policy
from mesh.policy.service_config import load
from mesh.policy.standing import Standing
from mesh.telemetry.events import Emit, Event, PolicyChanged, PolicyRefused, unheard

LOG = logging.getLogger(__name__)

# A file that is being written is looked at again after so long, seconds.
SETTLE_SECONDS = 0.05
# After an error that no source should have.
PAUSE_SECONDS = 5.0


@runtime_checkable
class PolicySource(Protocol):
    """Where a policy comes from when it is not written in code."""

    def first(self) -> Policy:
        """What a channel begins with; PolicyError when it cannot begin so."""
        ...

    async def follow(self, registry: Registry | None, standing: Standing) -> None:
        """Offer what there is and every change of it, for ever; None where there is no registry."""
        ...


class PolicyFile:
    """
    A policy in a file, as gRPC's service config in JSON, looked at every `seconds`.

    It must be there and right when a channel is made of it; a write in place, a rename over it and
    a change of what it links to are all seen.  Gone or wrong later, it changes nothing.
    """

    def __init__(self, path: str | PathLike[str], *, seconds: float = 1.0) -> None:
        self.path = Path(path)
        self._seconds = seconds
        if seconds <= 0:
            raise PolicyError("policy_file.seconds", seconds, "is not above 0")

    def __str__(self) -> str:
        return str(self.path)

    def first(self) -> Policy:
        text = _read(self.path)
        if isinstance(text, str):
            raise PolicyError("policy", str(self.path), text)
        try:
            return load(text)
        except PolicyError as error:
            raise PolicyError(f"{self.path}: {error.field}", error.value, error.why) from None

    async def follow(self, registry: Registry | None, standing: Standing) -> None:
        last: bytes | str | None = None
        while True:
            found = await asyncio.to_thread(_read, self.path)
            if found != last:
                await asyncio.sleep(SETTLE_SECONDS)
                if found != await asyncio.to_thread(_read, self.path):
                    continue  # somebody is writing it
                last = found
                if isinstance(found, bytes):
                    standing.offer(found, str(self))
                else:
                    standing.refuse(f"the file {found}", str(self))
            await asyncio.sleep(self._seconds)


class PolicyKey:
    """
    A policy under a key of Consul's KV store, of the registry that the channel finds servers in.

    Until there is one that makes sense, `default` is in force (Policy.production() unless told):
    what somebody wrote into a store must not stop a fleet from starting.
    """

    # Nobody can follow it without one: mesh.interceptors and mesh.guard must be given a registry.
    needs_registry = True

    def __init__(self, key: str, default: Policy | None = None) -> None:
        self.key = key
        self._default = default
        if not key.strip("/"):
            raise PolicyError("policy_key.key", key, "names no key")

    def __str__(self) -> str:
        return f"key {self.key}"

    def first(self) -> Policy:
        return self._default or Policy.production()

    async def follow(self, registry: Registry | None, standing: Standing) -> None:
        if not isinstance(registry, Keys):
            raise PolicyError("policy_key.key", self.key, "cannot be kept by this registry")
        async for value in registry.watch_key(self.key):
            if value is None:
                standing.refuse("there is no such key", str(self))
            else:
                standing.offer(value, str(self))


class Followed:
    """What a channel was given as its policy: followed while the channel is open, or fixed."""

    def __init__(
        self,
        policy: Policy | PolicySource | None,
        use: Callable[[Policy], None],
        emit: Emit | None = None,
    ) -> None:
        self.source = policy if isinstance(policy, PolicySource) else None
        self.first = policy.first() if isinstance(policy, PolicySource) else policy
        self._standing = Standing(self.first or Policy.production(), use, _logged(emit))

    @property
    def error(self) -> str:
        """Why the source's newest policy was refused; "" when it was not."""
        refused = self._standing.refused
        return f"{self.source}: {refused}" if refused else ""

    @asynccontextmanager
    async def following(self, registry: Registry | None) -> AsyncIterator[None]:
        """The source is followed inside the block."""
        if self.source is None:
            yield
            return
        task = asyncio.ensure_future(_keep_following(self.source, registry, self._standing))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])


async def _keep_following(
    source: PolicySource, registry: Registry | None, standing: Standing
) -> None:
    while True:
        try:
            await source.follow(registry, standing)
        except PolicyError as error:
            standing.refuse(str(error), str(source))
            return
        except Exception:  # whatever a source raises, the last good policy stays
            LOG.exception("policy %s: following it broke; again in %.0f s", source, PAUSE_SECONDS)
        await asyncio.sleep(PAUSE_SECONDS)


def _logged(emit: Emit | None) -> Emit:
    """`emit`, and a line in the log for what is told of policies."""

    def tell(event: Event) -> None:
        if isinstance(event, PolicyRefused):
            LOG.warning("policy %s: refused, the last good one stays: %s", event.source, event.why)
        elif isinstance(event, PolicyChanged):
            LOG.info("policy %s: a new one is in force", event.source)
        (emit or unheard)(event)

    return tell


def _read(path: Path) -> bytes | str:
    """What the file holds, or in words why that cannot be known."""
    try:
        return path.read_bytes()
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
