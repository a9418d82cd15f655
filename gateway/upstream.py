"""
A mesh channel that knows its methods from reflection.

Whether a call may be repeated is the contract's word (`idempotency_level`, a `request_id` field),
and for a gateway without generated code the contract is what the instances told it.  While versions
of a service run side by side, a method is asked of those instances first whose contract has it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import mesh
from discovery.registry import Registry
from gateway.contract import Rpc
from mesh.call import Call, Kind, Method
from mesh.client import contract
from mesh.flow import Inner, Steps
from mesh.policy.config import Policy
from mesh.telemetry.events import Emit

# How much a service may send of a stream whose client does not read: gRPC's own window grows with
# the bandwidth, to 16 MB for each stream.
OPTIONS = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 256 * 1024))
# What hears the calls to a service, given which methods are its contract's.
Emitting = Callable[[str, Callable[[str], bool]], Emit]


class Upstream(mesh.Channel):
    """The channel to one service."""

    def __init__(
        self,
        service: str,
        policy: Policy,
        registry: Registry,
        emitting: Emitting | None = None,
    ) -> None:
        # By path: the instances whose contract lacks the method.
        self._lacking: Mapping[str, Sequence[str]] = {}
        emit = emitting(service, self.knows) if emitting is not None else None
        super().__init__(
            service, policy, registry=registry, options=OPTIONS, transport="http2", emit=emit
        )
        self._rpcs: dict[str, tuple[Method, bool]] = {}

    @property
    def flow(self) -> Inner:
        """What every call goes through; a call for some instances alone is told of the others."""
        return self._steered if self._lacking else self._column

    @flow.setter
    def flow(self, column: Inner) -> None:
        self._column = column

    def _steered(self, call: Call) -> Steps:
        # As if they had been tried: the picker passes over them while there are others.
        call.tried.extend(self._lacking.get(call.method.name, ()))
        return self._column(call)

    def steer(self, lacking: Mapping[str, Sequence[str]]) -> None:
        """Say which instances, by id, lack which method, by path."""
        self._lacking = lacking

    def knows(self, path: str) -> bool:
        """Whether it is a method of the service's contract, and none that somebody made up."""
        return path in self._rpcs or contract.known(path)

    def learn(self, rpcs: Iterable[Rpc]) -> None:
        """Remember what the instances say; the newest word counts."""
        self._rpcs.update({rpc.path: (rpc.method, rpc.keyed) for rpc in rpcs})

    def contracts(self, path: str, kind: Kind) -> tuple[Method, bool]:
        """What is known of a method: from reflection, else from generated code."""
        return self._rpcs.get(path) or contract.read(path, kind)

    def stub(self, rpc: Rpc, request: Any, reply: Any) -> Any:
        """What calls `rpc`, with the message classes of its contract."""
        make = getattr(self, rpc.kind.value)
        return make(
            rpc.path,
            request_serializer=request.SerializeToString,
            response_deserializer=reply.FromString,
        )
