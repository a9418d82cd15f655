"""
What one server takes on: every bound has a value a production engineer would sign, with its reason.

A bound that is missing is a way to fall over: gRPC's own defaults allow endless streams on one
connection (HTTP/2 rapid reset), endless concurrent calls and connections that live for ever.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from mesh.errors import PolicyError
from mesh.policy.adaptive import AdaptiveLimit

KIB = 1024
MIB = 1024 * KIB
LEARNING = AdaptiveLimit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one server process; sizes are bytes, times float seconds."""

    # Streams on one connection.  Without it HTTP/2 rapid reset (CVE-2023-44487) stalls grpc.aio.
    max_concurrent_streams: int = 100
    # Calls in the handlers of this process, streams included; more is refused as RESOURCE_EXHAUSTED
    # before any work.  Health checks are exempt: overload must not look like death.
    maximum_concurrent_rpcs: int = 1000
    # Learn from latencies how many of them are good for this process, streams left out; None keeps
    # to the number above.  Calls marked sheddable are refused first (metadata x-mesh-criticality).
    adaptive: AdaptiveLimit | None = LEARNING
    # gRPC's default, and what every client takes by default; larger things belong in streams.
    max_receive_message_size: int = 4 * MIB
    max_send_message_size: int = 4 * MIB
    # Room for a token, trace and baggage; gRPC refuses the call above it.
    max_metadata_size: int = 16 * KIB
    # A client may ping this often (gRPC clients never go below 10 s), even without calls, so that
    # it can tell a dead connection from a quiet one; more often is GOAWAY too_many_pings.
    keepalive_permit: float = 10.0
    # This server's own ping on a quiet connection, and how long it waits for the answer: a client
    # whose machine vanished stops costing streams.
    keepalive_time: float = 60.0
    keepalive_timeout: float = 20.0
    # Connections are closed politely at this age (C-core spreads it by ±10 %), so that clients
    # behind a name or an L4 balancer look again and load follows new instances ...
    max_connection_age: float = 1800.0
    # ... and calls still running on them get this long before they are cut.
    max_connection_age_grace: float = 60.0
    # "Refuse before the handler": with less than this left no answer could arrive in time.
    deadline_floor: float = 0.005
    # Threads for blocking (non-async) servicer methods; made only when there are any.
    threads: int = 32

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name == "adaptive":
                continue  # checked by itself
            if value < 0 or (value == 0 and field.name != "deadline_floor"):
                raise PolicyError(field.name, value, "is not above 0")

    def options(self) -> list[tuple[str, int]]:
        """These bounds as grpc channel arguments."""
        return [
            ("grpc.max_concurrent_streams", self.max_concurrent_streams),
            # C-core would count streams that have ended and are not yet freed against that number,
            # and so refuse most of a burst from clients who keep to it.
            ("grpc.http.overload_protection", 0),
            ("grpc.max_receive_message_length", self.max_receive_message_size),
            ("grpc.max_send_message_length", self.max_send_message_size),
            # Between the soft and the absolute limit C-core refuses by chance: make them one.
            ("grpc.max_metadata_size", self.max_metadata_size),
            ("grpc.absolute_max_metadata_size", self.max_metadata_size),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", _ms(self.keepalive_permit)),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", _ms(self.keepalive_time)),
            ("grpc.keepalive_timeout_ms", _ms(self.keepalive_timeout)),
            ("grpc.max_connection_age_ms", _ms(self.max_connection_age)),
            ("grpc.max_connection_age_grace_ms", _ms(self.max_connection_age_grace)),
            # Two servers on one port would share its connections at random: busy is an error.
            ("grpc.so_reuseport", 0),
        ]


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
