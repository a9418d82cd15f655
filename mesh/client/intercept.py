"""
The column on a grpc.aio channel of one's own: what a mesh channel does, less finding servers.

    grpc.aio.insecure_channel(target, interceptors=mesh.interceptors(policy))

The channel keeps its own connection, so nothing can be said of whether a failed attempt was
processed: what may have side effects is not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import grpc.aio

from mesh.call import Call, Kind
from mesh.client import contract, wire
from mesh.client.callables import new_call
from mesh.client.calls import UnaryUnaryCall
from mesh.client.flows import flows
from mesh.client.streams import UnaryStreamCall
from mesh.client.writing import StreamStreamCall, StreamUnaryCall
from mesh.column import Memory
from mesh.policy.config import Policy
from mesh.telemetry.events import Emit


def interceptors(
    policy: Policy | None = None, *, emit: Emit | None = None
) -> Sequence[grpc.aio.ClientInterceptor]:
    """Interceptors for one channel, one for each kind of call; they share one memory."""
    target = _Target(policy, emit)
    return [_UnaryUnary(target), _UnaryStream(target), _StreamUnary(target), _StreamStream(target)]


class _Target:
    """The one server behind the channel, as the calls on it see it."""

    def __init__(self, policy: Policy | None, emit: Emit | None) -> None:
        self.active: set[Any] = set()
        self.flow = flows(policy, Memory(), emit=emit, balanced=False)

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    def soon(self, callback: Callable[[], None]) -> None:
        """Nothing: who intercepts awaits the call at once."""


class _Method:
    """The rest of the channel's interceptors, as a method to begin attempts on."""

    # Messages stay as they are: the channel serializes them.
    serializer = None

    def __init__(self, target: _Target, continuation: Any, details: Any) -> None:
        self.channel = target
        self._continuation = continuation
        self._details = details

    def begin_now(self, call: Call, request: Any, options: dict[str, Any]) -> wire.Begun | None:
        return None  # it takes the interceptors between us and the channel

    async def begin(self, call: Call, request: Any, options: dict[str, Any]) -> wire.Begun:
        metadata = grpc.aio.Metadata(*(wire.metadata(call) or ()))
        details = self._details._replace(timeout=wire.timeout(call), metadata=metadata)
        return await self._continuation(details, request), None

    def call(self, kind: Kind, request: Any) -> Call:
        """The logical call that these details describe."""
        details = self._details
        path = details.method
        method, keyed = contract.read(path if isinstance(path, str) else path.decode(), kind)
        return new_call(
            method, keyed, request, details.timeout, details.metadata, details.wait_for_ready
        )


class _Interceptor:
    def __init__(self, target: _Target) -> None:
        self._target = target


class _UnaryUnary(_Interceptor, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        method = _Method(self._target, continuation, client_call_details)
        call = UnaryUnaryCall(method, method.call(Kind.UNARY_UNARY, request), {})
        # The whole conversation, in grpc's own task for interceptors: no second one, and what
        # cancels that task cancels the call.
        await call.settled()
        return call


class _UnaryStream(_Interceptor, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        method = _Method(self._target, continuation, client_call_details)
        return UnaryStreamCall(method, method.call(Kind.UNARY_STREAM, request), {})


class _StreamUnary(_Interceptor, grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        method = _Method(self._target, continuation, client_call_details)
        return StreamUnaryCall(method, method.call(Kind.STREAM_UNARY, None), {}, request_iterator)


class _StreamStream(_Interceptor, grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        method = _Method(self._target, continuation, client_call_details)
        return StreamStreamCall(method, method.call(Kind.STREAM_STREAM, None), {}, request_iterator)
