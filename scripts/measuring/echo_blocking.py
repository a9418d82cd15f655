"""The same comparison for stubs that block: every kind of blocking channel to the echo server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import BytesValue

from mesh.client.sync import SyncChannel
from mesh.client.sync_intercept import sync_interceptors
from mesh.policy.config import Policy
from scripts.measuring.echo import CAREFUL, METHOD, REQUEST, TIMEOUT, target

BARE = "bare grpc"
READY_SECONDS = 10.0


class Nothing(grpc.UnaryUnaryClientInterceptor):
    """An interceptor that does nothing."""

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        return continuation(client_call_details, request)


def variants(stack: ExitStack, ports: list[int]) -> dict[str, Callable[[], Any]]:
    """Everything that is compared, by name; the first is what the others are compared with."""
    first = f"127.0.0.1:{ports[0]}"
    policy = Policy.production()

    def plain(*options: tuple[str, Any]) -> grpc.Channel:
        return stack.enter_context(grpc.insecure_channel(first, options))

    def mesh(policy: Policy, ports: list[int]) -> grpc.Channel:
        return stack.enter_context(SyncChannel(target(ports), policy))

    channels = {
        BARE: plain(*CAREFUL),
        "bare, grpc's own retries on": plain(),
        "mesh, no rules": mesh(Policy(), ports[:1]),
        "mesh, production policy": mesh(policy, ports[:1]),
        "mesh, production, 3 endpoints": mesh(policy, ports),
        "1 interceptor that does nothing": grpc.intercept_channel(plain(*CAREFUL), Nothing()),
        "mesh.sync_interceptors, production": grpc.intercept_channel(
            plain(*CAREFUL), *sync_interceptors(policy)
        ),
    }
    for channel in channels.values():
        grpc.channel_ready_future(channel).result(READY_SECONDS)
    return {name: _saying(channel) for name, channel in channels.items()}


def _saying(channel: grpc.Channel) -> Callable[[], Any]:
    say: Any = channel.unary_unary(METHOD, BytesValue.SerializeToString, BytesValue.FromString)
    return lambda: say(REQUEST, timeout=TIMEOUT)
