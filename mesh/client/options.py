"""grpc's channel arguments of a link: ours, under what the user of a channel says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Options = Sequence[tuple[str, Any]]

OPTIONS: dict[str, Any] = {
    # Exactly one layer repeats calls, and it is not this one.  It would repeat transparently what a
    # GOAWAY left unseen, and takes grpc-previous-rpc-attempts out of everything else.
    "grpc.enable_retries": 0,
    # The global subchannel pool would give two links to one address a single connection.
    "grpc.use_local_subchannel_pool": 1,
    "grpc.service_config_disable_resolution": 1,
    "grpc.enable_http_proxy": 0,
    # Any server permits a ping every 300 s; the timeout also becomes TCP_USER_TIMEOUT, which is
    # what notices a peer that vanished with our bytes unacknowledged.
    "grpc.keepalive_time_ms": 310_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # Discovery tells who is gone; while an endpoint is listed it is worth asking often.
    "grpc.initial_reconnect_backoff_ms": 100,
    "grpc.min_reconnect_backoff_ms": 5_000,
    "grpc.max_reconnect_backoff_ms": 3_000,
}


def merged(options: Options) -> tuple[tuple[str, Any], ...]:
    """The links' options under the user's own, which win."""
    return tuple({**OPTIONS, **dict(options)}.items())
