"""
Who is where: registries that servers register in and clients watch; knows nothing of calls.

    async with discovery.connect("consul://127.0.0.1:8500") as registry:
        async with registry.register(Instance("orders", "127.0.0.1", 50051)):
            async for snapshot in registry.watch("orders"): ...
"""

from discovery.errors import DiscoveryError
from discovery.model import Check, Endpoint, Health, Instance, Snapshot
from discovery.registry import Registration, Registry, connect, from_environment

__all__ = [
    "Check",
    "DiscoveryError",
    "Endpoint",
    "Health",
    "Instance",
    "Registration",
    "Registry",
    "Snapshot",
    "connect",
    "from_environment",
]
