"""
The demo running: everything started in order, found healthy, and stopped in reverse at the end.

    async with running(supervisor, state, free=False) as demo:
        demo.gateway, demo.addresses, demo.seconds, demo.megabytes()
        demo.kill("orders-1")                       # -9; it is started again
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from scripts.stage import healthy, memory, programs, strangler
from scripts.stage.supervisor import Supervisor

START_SECONDS = 60.0
# Programs that are no instance of a service: the registry knows none of them.
APART = ("registry", "legacy", "gateway")


@dataclass(slots=True)
class Demo:
    """A running demo; `seconds` is how long it took until all was healthy, not only listening."""

    state: Path
    registry: programs.Registry
    supervisor: Supervisor
    gateway: str
    admin: str
    listening_seconds: float
    seconds: float
    own_megabytes: float

    @property
    def addresses(self) -> dict[str, str]:
        """Where each instance of a service listens."""
        children = self.supervisor.children
        return {name: child.address for name, child in children.items() if name not in APART}

    def megabytes(self) -> float | None:
        """PSS of the demo as it was when ready and of all it started, but for a real Consul."""
        ours = [
            child.pid
            for name, child in self.supervisor.children.items()
            if child.pid is not None and (name != "registry" or self.registry.embedded)
        ]
        children = memory.megabytes(ours)
        return None if children is None else children + self.own_megabytes

    def kill(self, name: str) -> None:
        """End an instance as a crash would; the supervisor starts it again."""
        self.supervisor.children[name].signal(signal.SIGKILL)


def registered(supervisor: Supervisor) -> dict[str, dict[str, str]]:
    """Service -> instance id -> address, as the registry should know them."""
    wanted: dict[str, dict[str, str]] = {}
    for name, child in supervisor.children.items():
        if name not in APART:
            addresses = wanted.setdefault(name.rsplit("-", 1)[0], {})
            addresses[programs.instance(child.program)] = child.address
    return wanted


@asynccontextmanager
async def running(
    supervisor: Supervisor, state: Path, *, free: bool, legacy: bool = False
) -> AsyncIterator[Demo]:
    """
    Start the demo on a state that is held; with `free` every port is a free one.

    With `legacy` there is an old shop too, and the gateway strangles it.
    """
    began = time.monotonic()
    registry = programs.registry(os.environ, state, free=free)
    services = programs.services(registry, state, free=free)
    old = [programs.legacy(state, free=free)] if legacy else []
    more = strangler.settings(state) if legacy else {}
    gateway = programs.gateway(registry, os.environ, free=free, more=more)
    if registry.program is None:
        await healthy.require_registry(registry.environment)

    supervisor.say(
        "", f"starting {len(services) + len(old) + 2} programs; their state and logs go to {state}"
    )
    async with supervisor:
        async with asyncio.timeout(START_SECONDS):
            if registry.program is not None:
                await supervisor.start([registry.program], START_SECONDS)
            await supervisor.start([*services, *old], START_SECONDS)
            if legacy:
                strangler.write(state, f"http://{supervisor.children['legacy'].address}")
            await supervisor.start([gateway], START_SECONDS)
            listening = time.monotonic() - began
            url = f"http://{supervisor.children['gateway'].address}"
            supervisor.say("", "waiting until the registry finds all of it healthy")
            await asyncio.gather(
                healthy.instances(registry.environment, registered(supervisor)),
                healthy.gateway(url),
            )
        seconds = time.monotonic() - began
        own = memory.alone(os.getpid())
        admin = programs.admin_url(gateway)
        yield Demo(state, registry, supervisor, url, admin, listening, seconds, own)
