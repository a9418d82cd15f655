"""
Subsets: each client keeps connections to a few of many endpoints, always the same few (gRFC A68).

    sort endpoints by hash(address, this client's seed)  -->  the first `size`

A thousand clients on a thousand servers are then twenty-five thousand connections and not a
million.  By rendezvous: when an endpoint comes or goes, a client changes one of its own at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from discovery.model import Endpoint
from mesh.balance.hashing import hash64
from mesh.policy import checks


@dataclass(frozen=True, kw_only=True, slots=True)
class Subset:
    """The rule: at most `size` endpoints; a seed of one's own makes the choice repeatable."""

    size: int = 25
    seed: int | None = None

    def __post_init__(self) -> None:
        checks.whole("subset", 1, size=self.size)
        checks.whole("subset", 0, 2**64 - 1, seed=self.seed)

    def choose(self, endpoints: Sequence[Endpoint], seed: int) -> tuple[Endpoint, ...]:
        """The client's own endpoints, in the order of the snapshot."""
        if len(endpoints) <= self.size:
            return tuple(endpoints)
        own = self.seed if self.seed is not None else seed
        ranked = sorted(
            endpoints, key=lambda endpoint: (hash64(endpoint.address, own), endpoint.id)
        )
        chosen = {endpoint.id for endpoint in ranked[: self.size]}
        return tuple(endpoint for endpoint in endpoints if endpoint.id in chosen)
