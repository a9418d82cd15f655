"""
Who is where: the values that registries speak in, equal by content and free of any I/O.

An `Instance` is what a server registers, an `Endpoint` what a client finds, a `Snapshot` all
endpoints of a service at one index: the whole truth each time, never a delta.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum


class Health(Enum):
    """A Consul check status; an instance's is the worst of its checks."""

    PASSING = "passing"
    WARNING = "warning"
    CRITICAL = "critical"


@dataclass(frozen=True, slots=True)
class Check:
    """
    How the registry finds out whether an instance is well.

    `kind` "grpc" lets the registry call grpc.health.v1 on the instance, "tcp" only connect to it;
    "ttl" makes the instance report itself.  `interval`, `timeout`, `ttl` and `deregister_after`
    are seconds.  Consul deletes a critical instance after `deregister_after`, never before 60 s;
    0 means never.
    """

    kind: str = "grpc"
    interval: float = 2.0
    timeout: float = 1.0
    ttl: float = 10.0
    deregister_after: float = 60.0

    def __post_init__(self) -> None:
        if self.kind not in ("grpc", "tcp", "ttl"):
            raise ValueError(f"kind: {self.kind!r} is not grpc, tcp or ttl")
        for name in ("interval", "timeout", "ttl"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0 seconds")
        if self.deregister_after and self.deregister_after < 60:
            raise ValueError(f"deregister_after: {self.deregister_after} is below 60 seconds")


@dataclass(frozen=True, slots=True)
class Instance:
    """
    One running server as it registers itself; `id` is "<service>-<host>-<port>" unless given.

    `weight` counts while it passes its checks, `warning_weight` while one of them warns.
    """

    service: str
    host: str
    port: int
    id: str = ""
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict, hash=False)
    weight: int = 1
    warning_weight: int = 1
    check: Check | None = Check()

    def __post_init__(self) -> None:
        # Where a server listens on every interface is never where a client can call it.
        if not self.service:
            raise ValueError("service: '' is not a service name")
        if self.host in ("", "0.0.0.0", "::", "[::]"):  # noqa: S104 - refused, not bound
            raise ValueError(f"host: {self.host!r} is not an address that a client can call")
        if not 0 < self.port < 65536:
            raise ValueError(f"port: {self.port} is not between 1 and 65535")
        if not 0 < self.weight < 65536:
            raise ValueError(f"weight: {self.weight} is not between 1 and 65535")
        if not 0 <= self.warning_weight < 65536:
            raise ValueError(f"warning_weight: {self.warning_weight} is not between 0 and 65535")
        if not self.id:
            object.__setattr__(self, "id", f"{self.service}-{self.host}-{self.port}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    One server that may be called; `weight` is for its present health.

    Weight 0 (Consul allows it for instances in warning) means: only when nothing else is left.
    """

    id: str
    host: str
    port: int
    tags: tuple[str, ...] = ()
    meta: Mapping[str, str] = field(default_factory=dict, hash=False)
    weight: int = 1
    health: Health = Health.PASSING

    @property
    def address(self) -> str:
        """host:port, as grpc takes it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def zone(self) -> str:
        return self.meta.get("zone", "")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    All endpoints of `service` at one `index`, critical ones included: the picker decides.

    `stale_since` is the wall-clock time (seconds since 1970) since when the registry could not be
    asked, so that the endpoints are the last known good ones; None while it answers.
    """

    service: str
    endpoints: tuple[Endpoint, ...] = ()
    index: int = 0
    stale_since: float | None = None

    def same_endpoints(self, other: Snapshot | None) -> bool:
        """Whether nothing but the index differs: an answer is not a change."""
        return other is not None and self.endpoints == other.endpoints
