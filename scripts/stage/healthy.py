"""
Wait until the registry says that every instance is well, and the gateway that it can serve.

The registry is asked through `discovery`, as any client of the mesh asks it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping

import aiohttp

import discovery
from discovery import Health
from scripts.stage.preflight import Unfit

ASK_AGAIN_SECONDS = 0.1
REGISTRY_SECONDS = 5.0


async def require_registry(environment: Mapping[str, str]) -> None:
    """Raise Unfit when no registry answers where the environment says."""
    async with discovery.from_environment({**os.environ, **environment}) as registry:
        try:
            async with asyncio.timeout(REGISTRY_SECONDS):
                async for snapshot in registry.watch("consul"):
                    if snapshot.stale_since is None:
                        return
        except TimeoutError:
            pass
    named = os.environ.get("MESH_REGISTRY") or os.environ.get("CONSUL_HTTP_ADDR")
    raise Unfit(f"no Consul answers at {named}")


async def instances(
    environment: Mapping[str, str], wanted: Mapping[str, Mapping[str, str]]
) -> None:
    """Wait for `wanted`, service -> instance id -> address, to be passing there."""
    async with discovery.from_environment({**os.environ, **environment}) as registry:
        await asyncio.gather(
            *(_passing(registry, service, addresses) for service, addresses in wanted.items())
        )


async def _passing(
    registry: discovery.Registry, service: str, addresses: Mapping[str, str]
) -> None:
    async for snapshot in registry.watch(service):
        passing = {
            endpoint.id: endpoint.address
            for endpoint in snapshot.endpoints
            if endpoint.health is Health.PASSING
        }
        if addresses.items() <= passing.items():
            return


async def gateway(url: str) -> None:
    """Wait for the gateway's /readyz."""
    async with aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/readyz") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(ASK_AGAIN_SECONDS)
