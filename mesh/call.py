"""
One logical call: what the caller asked for, and what the layers decide about it.

`Method` is read once from the contract; `Call` is made per call and filled in on the way down.
Times are seconds on the driver's monotonic clock; a deadline is absolute and only ever lowered.
A Call is a msgspec.Struct because one is made for every call: that takes a third of what a
dataclass takes.
During an Attempt `deadline` is that attempt's own (mesh.policy.timing lowers it and puts it back),
so that a driver needs to look at nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import msgspec

from discovery.model import Endpoint

Metadata = tuple[tuple[str, str | bytes], ...]


class Kind(Enum):
    """Which sides stream; the value is grpc's own word for it."""

    UNARY_UNARY = "unary_unary"
    UNARY_STREAM = "unary_stream"
    STREAM_UNARY = "stream_unary"
    STREAM_STREAM = "stream_stream"


class Idempotency(Enum):
    """MethodOptions.idempotency_level: what the contract says about asking twice."""

    UNKNOWN = 0
    NO_SIDE_EFFECTS = 1
    IDEMPOTENT = 2


@dataclass(frozen=True, slots=True)
class Method:
    """An rpc as the contract declares it; `name` is the wire's path, "/package.Service/Method"."""

    name: str
    kind: Kind = Kind.UNARY_UNARY
    idempotency: Idempotency = Idempotency.UNKNOWN
    # Whether it may go on for as long as it likes: how long it took says nothing then.
    streams_replies: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        streams = self.kind in (Kind.UNARY_STREAM, Kind.STREAM_STREAM)
        object.__setattr__(self, "streams_replies", streams)

    @property
    def service(self) -> str:
        return self.name.rsplit("/", 1)[0].lstrip("/")


class Call(msgspec.Struct):
    """One call on its way down the column."""

    method: Method
    request: Any = None
    metadata: Metadata = ()
    deadline: float | None = None
    wait_for_ready: bool = False
    # The idempotency key (metadata idempotency-key, or the request's request_id): with it, asking
    # twice is asking once.
    key: str | None = None
    # How much it matters (mesh.policy.criticality), as the caller or the call being served says.
    criticality: str = ""
    # W3C trace context of the attempt now made; empty when nobody traces.
    traceparent: str = ""
    # Set by layers: this attempt's number (1 is the first), where it goes, who was asked before.
    attempt: int = 1
    endpoint: Endpoint | None = None
    tried: list[str] = []
    # Why this attempt is not the first: the status that ended the one before.
    retried_for: str = ""
    # What layers add to the reply's metadata: mesh-fallback says that no server answered this.
    notes: list[tuple[str, str]] = []
    # Set by the driver at the first response header or message; no layer may repeat after it (A6).
    committed: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether the contract or a key allows sending it again after it may have run."""
        return self.method.idempotency is not Idempotency.UNKNOWN or self.key is not None

    @property
    def span_id(self) -> str:
        """The span that `traceparent` names; empty when nobody traces."""
        return self.traceparent[36:52]

    def remaining(self, now: float) -> float | None:
        """Seconds until the deadline, never below 0; None when there is none."""
        return None if self.deadline is None else max(0.0, self.deadline - now)

    def fork(self) -> Call:
        """A copy for a concurrent attempt; `tried` stays shared: hedges avoid each other."""
        return copy(self)

    def with_metadata(self, extra: Sequence[tuple[str, str | bytes]]) -> Metadata:
        """The call's metadata plus `extra`; order and duplicates are kept."""
        return (*self.metadata, *extra)
