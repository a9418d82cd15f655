"""
The column on a grpc.aio channel of one's own: what a mesh channel does, less finding servers.

    grpc.aio.insecure_channel(target, interceptors=mesh.interceptors(policy))

    async with mesh.interceptors(mesh.PolicyFile(path)) as ours:          a policy that may change
        async with grpc.aio.insecure_channel(target, interceptors=ours) as channel: ...

The channel keeps its own connection, so nothing can be said of whether a failed attempt was
processed: what may have side effects is not repeated.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Self

import grpc.aio

from discovery.registry import Registry
from mesh.attended import AttendedTask
from mesh.call import Call, Kind
from mesh.client import contract, wire
from mesh.client.callables import new_call
from mesh.client.calls import UnaryUnaryCall
from mesh.client.flows import flows
from mesh.client.streams import UnaryStreamCall
from mesh.client.writing import StreamStreamCall, StreamUnaryCall
from mesh.column import Memory
from mesh.policy.config import Policy
from mesh.sources import PolicySource
from mesh.telemetry.events import Emit


class Interceptors(list[grpc.aio.ClientInterceptor]):
    """
    The interceptors of one channel; `async with` or `aclose` ends the following of their policy.

    Only one from a file or key is followed, from the first call on; closed, the last good stays.
    """

    def __init__(self, target: _Target) -> None:
        super().__init__(
            [_UnaryUnary(target), _UnaryStream(target), _StreamUnary(target), _StreamStream(target)]
        )
        self._target = target

    @property
    def policy(self) -> Policy:
        """What is in force."""
        return self._target.policy

    @property
    def policy_error(self) -> str:
        """What is wrong with the newest policy of a file or key; "" when it is in force."""
        return self._target.attended.error

    async def aclose(self) -> None:
        """Follow the policy's source no more."""
        await self._target.attended.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *why: object) -> None:
        await self.aclose()


def interceptors(
    policy: Policy | PolicySource | None = None,
    *,
    registry: Registry | str | None = None,
    emit: Emit | None = None,
) -> Interceptors:
    """
    Interceptors for one channel, one for each kind of call; they share one memory.

    A policy may come from a file or, with the `registry` (entered, or its URL), from a key.
    """
    return Interceptors(_Target(policy, registry, emit))


class _Target:
    """The one server behind the channel, as the calls on it see it."""

    def __init__(
        self,
        policy: Policy | PolicySource | None,
        registry: Registry | str | None,
        emit: Emit | None,
    ) -> None:
        self.active: set[Any] = set()
        self._memory, self._emit = Memory(), emit
        self.attended = AttendedTask("interceptors", policy, self.use, registry=registry, emit=emit)
        self.use(self.attended.first)

    def use(self, policy: Policy) -> None:
        """Put a policy in force for the calls that start now."""
        self.policy = policy
        self.flow = flows(policy, self._memory, emit=self._emit, balanced=False)

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
        if target.attended.changes:
            target.attended.attend()
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
