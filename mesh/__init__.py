"""
A service mesh inside the process.

    async with mesh.Channel("orders") as channel:
        order = await OrderServiceStub(channel).GetOrder(GetOrderRequest(order_id="o-1"))

    await mesh.Server("orders", [Orders(store)]).run(port=50051)

Names are imported when they are first used: a program that only reads policies loads no grpc.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mesh.balance.least_request import LeastRequest as LeastRequest
    from mesh.balance.round_robin import RoundRobin as RoundRobin
    from mesh.client.channel import Channel as Channel
    from mesh.client.intercept import interceptors as interceptors
    from mesh.client.sync import SyncChannel as SyncChannel
    from mesh.client.sync_intercept import sync_interceptors as sync_interceptors
    from mesh.errors import Code as Code
    from mesh.errors import MeshError as MeshError
    from mesh.errors import PolicyError as PolicyError
    from mesh.errors import StatusError as StatusError
    from mesh.guard import guard as guard
    from mesh.inbound import detached as detached
    from mesh.policy.breaker import Breaker as Breaker
    from mesh.policy.bulkhead import Bulkhead as Bulkhead
    from mesh.policy.config import Policy as Policy
    from mesh.policy.config import Rules as Rules
    from mesh.policy.retry import Retry as Retry
    from mesh.server.server import Server as Server

_HOMES = {
    "Breaker": "mesh.policy.breaker",
    "Bulkhead": "mesh.policy.bulkhead",
    "Channel": "mesh.client.channel",
    "Code": "mesh.errors",
    "LeastRequest": "mesh.balance.least_request",
    "MeshError": "mesh.errors",
    "Policy": "mesh.policy.config",
    "PolicyError": "mesh.errors",
    "Retry": "mesh.policy.retry",
    "RoundRobin": "mesh.balance.round_robin",
    "Rules": "mesh.policy.config",
    "Server": "mesh.server.server",
    "StatusError": "mesh.errors",
    "SyncChannel": "mesh.client.sync",
    "detached": "mesh.inbound",
    "guard": "mesh.guard",
    "interceptors": "mesh.client.intercept",
    "sync_interceptors": "mesh.client.sync_intercept",
}

__all__ = [
    "Breaker",
    "Bulkhead",
    "Channel",
    "Code",
    "LeastRequest",
    "MeshError",
    "Policy",
    "PolicyError",
    "Retry",
    "RoundRobin",
    "Rules",
    "Server",
    "StatusError",
    "SyncChannel",
    "detached",
    "guard",
    "interceptors",
    "sync_interceptors",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
