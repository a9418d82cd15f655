"""
How a server is listed: what the registry tells others of it, besides where it listens.

    Listing(instance=2, meta={"zone": "a"}).instance_of("orders", services, host, port)

An id comes from a slot, so that a later life replaces the ghost of an earlier one.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from discovery.model import Check, Instance
from mesh.server.address import reachable

CALLED = Check()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """
    `instance` is an id, or a slot: 2 of "orders" is "orders-<host>-2".

    `advertise` is the host that others reach it by, for when it listens on every interface.
    `check` is how the registry finds out whether it is well: it calls grpc.health.v1, or with
    Check("ttl") is told, where it cannot call (another network, mTLS).  `weight` is its share of
    the calls.
    """

    instance: str | int = ""
    tags: Sequence[str] = ("grpc",)
    meta: Mapping[str, str] = field(default_factory=dict)
    advertise: str = ""
    check: Check = CALLED
    weight: int = 1

    def instance_of(
        self,
        name: str,
        services: Sequence[str],
        listening: str,
        port: int,
        *,
        connection_age: float | None = None,
    ) -> Instance:
        """
        What is registered; ValueError names the field that cannot be.

        Who knows the `connection_age`, seconds, at which the server ends connections, renews them
        before.
        """
        told = {"grpc_services": ",".join(services)}
        if connection_age is not None:
            told["max_connection_age"] = f"{connection_age:g}"
        made = Instance(
            name,
            reachable(listening, self.advertise),
            port,
            tags=tuple(dict.fromkeys((*self.tags, "grpc"))),
            meta={**self.meta, **told},
            check=self.check,
            weight=self.weight,
        )
        id_ = self.instance
        if isinstance(id_, int):
            id_ = f"{name}-{socket.gethostname()}-{id_}"
        return replace(made, id=id_) if id_ else made
