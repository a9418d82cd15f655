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
    from mesh.client.channel import Channel as Channel
    from mesh.errors import Code as Code
    from mesh.errors import MeshError as MeshError
    from mesh.errors import StatusError as StatusError
    from mesh.inbound import detached as detached

_HOMES = {
    "Channel": "mesh.client.channel",
    "Code": "mesh.errors",
    "MeshError": "mesh.errors",
    "StatusError": "mesh.errors",
    "detached": "mesh.inbound",
}

__all__ = [
    "Channel",
    "Code",
    "MeshError",
    "StatusError",
    "detached",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(home), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
