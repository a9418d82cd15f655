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
    from mesh.balance.ring import RingHash as RingHash
    from mesh.balance.round_robin import RoundRobin as RoundRobin
    from mesh.balance.slow_start import SlowStart as SlowStart
    from mesh.balance.split import Split as Split
    from mesh.balance.subset import Subset as Subset
    from mesh.balance.zones import Zones as Zones
    from mesh.client.channel import Channel as Channel
    from mesh.client.intercept import interceptors as interceptors
    from mesh.client.sync import SyncChannel as SyncChannel
    from mesh.client.sync_intercept import sync_interceptors as sync_interceptors
    from mesh.errors import BulkheadFull as BulkheadFull
    from mesh.errors import CallFailed as CallFailed
    from mesh.errors import CircuitOpen as CircuitOpen
    from mesh.errors import Code as Code
    from mesh.errors import DeadlineSpent as DeadlineSpent
    from mesh.errors import MeshError as MeshError
    from mesh.errors import NoEndpoint as NoEndpoint
    from mesh.errors import Overloaded as Overloaded
    from mesh.errors import PolicyError as PolicyError
    from mesh.errors import Processed as Processed
    from mesh.errors import RateLimited as RateLimited
    from mesh.errors import Rejected as Rejected
    from mesh.errors import StatusError as StatusError
    from mesh.errors import Throttled as Throttled
    from mesh.guarding import guard as guard
    from mesh.inbound import detached as detached
    from mesh.policy.adaptive import AdaptiveLimit as AdaptiveLimit
    from mesh.policy.breaker import Breaker as Breaker
    from mesh.policy.bulkhead import Bulkhead as Bulkhead
    from mesh.policy.circuit import State as State
    from mesh.policy.config import Policy as Policy
    from mesh.policy.config import Rules as Rules
    from mesh.policy.criticality import Criticality as Criticality
    from mesh.policy.fallback import Fallback as Fallback
    from mesh.policy.fault import Abort as Abort
    from mesh.policy.fault import Delay as Delay
    from mesh.policy.fault import Fault as Fault
    from mesh.policy.hedge import Hedge as Hedge
    from mesh.policy.limit import RateLimit as RateLimit
    from mesh.policy.outlier import FailurePercentage as FailurePercentage
    from mesh.policy.outlier import Outlier as Outlier
    from mesh.policy.outlier import SuccessRate as SuccessRate
    from mesh.policy.retry import Retry as Retry
    from mesh.policy.throttle import ClientThrottle as ClientThrottle
    from mesh.reports import CircuitReport as CircuitReport
    from mesh.reports import EndpointReport as EndpointReport
    from mesh.server.limits import Limits as Limits
    from mesh.server.server import Server as Server
    from mesh.sources import PolicyFile as PolicyFile
    from mesh.sources import PolicyKey as PolicyKey

_HOMES = {
    "Abort": "mesh.policy.fault",
    "AdaptiveLimit": "mesh.policy.adaptive",
    "Breaker": "mesh.policy.breaker",
    "Bulkhead": "mesh.policy.bulkhead",
    "BulkheadFull": "mesh.errors",
    "CallFailed": "mesh.errors",
    "Channel": "mesh.client.channel",
    "CircuitOpen": "mesh.errors",
    "CircuitReport": "mesh.reports",
    "ClientThrottle": "mesh.policy.throttle",
    "Code": "mesh.errors",
    "Criticality": "mesh.policy.criticality",
    "DeadlineSpent": "mesh.errors",
    "Delay": "mesh.policy.fault",
    "EndpointReport": "mesh.reports",
    "FailurePercentage": "mesh.policy.outlier",
    "Fallback": "mesh.policy.fallback",
    "Fault": "mesh.policy.fault",
    "Hedge": "mesh.policy.hedge",
    "LeastRequest": "mesh.balance.least_request",
    "Limits": "mesh.server.limits",
    "MeshError": "mesh.errors",
    "NoEndpoint": "mesh.errors",
    "Outlier": "mesh.policy.outlier",
    "Overloaded": "mesh.errors",
    "Policy": "mesh.policy.config",
    "PolicyError": "mesh.errors",
    "PolicyFile": "mesh.sources",
    "PolicyKey": "mesh.sources",
    "Processed": "mesh.errors",
    "RateLimit": "mesh.policy.limit",
    "RateLimited": "mesh.errors",
    "Rejected": "mesh.errors",
    "Retry": "mesh.policy.retry",
    "RingHash": "mesh.balance.ring",
    "RoundRobin": "mesh.balance.round_robin",
    "Rules": "mesh.policy.config",
    "Server": "mesh.server.server",
    "SlowStart": "mesh.balance.slow_start",
    "Split": "mesh.balance.split",
    "State": "mesh.policy.circuit",
    "StatusError": "mesh.errors",
    "Subset": "mesh.balance.subset",
    "SuccessRate": "mesh.policy.outlier",
    "SyncChannel": "mesh.client.sync",
    "Throttled": "mesh.errors",
    "Zones": "mesh.balance.zones",
    "detached": "mesh.inbound",
    "guard": "mesh.guarding",
    "interceptors": "mesh.client.intercept",
    "sync_interceptors": "mesh.client.sync_intercept",
}

__all__ = [
    "Abort",
    "AdaptiveLimit",
    "Breaker",
    "Bulkhead",
    "BulkheadFull",
    "CallFailed",
    "Channel",
    "CircuitOpen",
    "CircuitReport",
    "ClientThrottle",
    "Code",
    "Criticality",
    "DeadlineSpent",
    "Delay",
    "EndpointReport",
    "FailurePercentage",
    "Fallback",
    "Fault",
    "Hedge",
    "LeastRequest",
    "Limits",
    "MeshError",
    "NoEndpoint",
    "Outlier",
    "Overloaded",
    "Policy",
    "PolicyError",
    "PolicyFile",
    "PolicyKey",
    "Processed",
    "RateLimit",
    "RateLimited",
    "Rejected",
    "Retry",
    "RingHash",
    "RoundRobin",
    "Rules",
    "Server",
    "SlowStart",
    "Split",
    "State",
    "StatusError",
    "Subset",
    "SuccessRate",
    "SyncChannel",
    "Throttled",
    "Zones",
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
