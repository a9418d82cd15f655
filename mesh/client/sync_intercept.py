"""
The column on a blocking grpc channel of one's own.

    grpc.intercept_channel(channel, *mesh.sync_interceptors(policy))

A unary call's flow runs on the calling thread, also for `future()`, which then returns a finished
one: grpc does not tell an interceptor which of the two was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Self, cast

import grpc

from discovery.registry import Registry
from mesh.attended import AttendedThread
from mesh.call import Call, Kind
from mesh.client import contract, status, wire
from mesh.client.callables import new_call
from mesh.client.flows import flows
from mesh.client.sync_calls import SyncStream
from mesh.client.sync_reply import Reply
from mesh.client.sync_requests import Replay
from mesh.column import Memory
from mesh.drive import Blocking
from mesh.errors import MeshError
from mesh.flow import Signal
from mesh.policy.config import Policy
from mesh.sources import PolicySource
from mesh.telemetry.events import Emit


class SyncInterceptors(tuple[Any, ...]):
    """
    The interceptors of one channel; `with` or `close` ends the following of their policy.

    Only one from a file or key is followed, from the first call on, by a thread; closed, the last
    good one stays.
    """

    __slots__ = ()

    @property
    def policy(self) -> Policy:
        """What is in force."""
        return cast("Policy", self[0].policy)

    @property
    def policy_error(self) -> str:
        """What is wrong with the newest policy of a file or key; "" when it is in force."""
        return cast("str", self[0].attended.error)

    def close(self) -> None:
        """Follow the policy's source no more."""
        self[0].attended.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *why: object) -> None:
        self.close()


def sync_interceptors(
    policy: Policy | PolicySource | None = None,
    *,
    registry: Registry | str | None = None,
    emit: Emit | None = None,
) -> SyncInterceptors:
    """
    Interceptors for one channel; they share one memory.

    A policy may come from a file or, with the `registry`, from a key.  A registry is best given by
    its URL: the thread that follows the key has an event loop of its own.
    """
    return SyncInterceptors((_Interceptor(policy, registry, emit),))


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: Any
    wait_for_ready: bool | None
    compression: Any


class _Method:
    """The rest of the channel's interceptors, as a method to begin attempts on."""

    def __init__(self, channel: _Interceptor, continuation: Any, details: Any) -> None:
        if channel.attended.changes:
            with channel.driver.lock:
                channel.attended.attend()
        self.channel = channel
        self._continuation = continuation
        self._details = details

    @contextmanager
    def begun(self, call: Call, request: Any, options: dict[str, Any]) -> Iterator[Any]:
        """One attempt's call of grpc's own."""
        given = self._details
        details = _Details(
            given.method,
            wire.timeout(call),
            wire.metadata(call),
            given.credentials,
            given.wait_for_ready,
            given.compression,
        )
        yield self._continuation(details, request)

    def call(self, kind: Kind, request: Any) -> Call:
        """The logical call that these details describe."""
        given = self._details
        method, keyed = contract.read(given.method, kind)
        return new_call(method, keyed, request, given.timeout, given.metadata, given.wait_for_ready)


class _Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """All four kinds of calls on the one server behind the channel."""

    def __init__(
        self,
        policy: Policy | PolicySource | None,
        registry: Registry | str | None,
        emit: Emit | None,
    ) -> None:
        self.active: set[Any] = set()
        self.driver = Blocking()
        self._memory, self._emit = Memory(), emit
        self.attended = AttendedThread(
            "sync_interceptors", policy, self.use, registry=registry, emit=emit
        )
        self.use(self.attended.first)

    def use(self, policy: Policy) -> None:
        """Put a policy in force for the calls that start now."""
        with self.driver.lock:
            self.policy = policy
            self.flow = flows(policy, self._memory, emit=self._emit, balanced=False)

    def intercept_unary_unary(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        method = _Method(self, continuation, client_call_details)
        return self._blocked(method, method.call(Kind.UNARY_UNARY, request), None)

    def intercept_unary_stream(
        self, continuation: Any, client_call_details: Any, request: Any
    ) -> Any:
        method = _Method(self, continuation, client_call_details)
        return SyncStream(method, method.call(Kind.UNARY_STREAM, request), {})

    def intercept_stream_unary(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        method = _Method(self, continuation, client_call_details)
        replay = Replay(request_iterator, None)
        return self._blocked(method, method.call(Kind.STREAM_UNARY, None), replay)

    def intercept_stream_stream(
        self, continuation: Any, client_call_details: Any, request_iterator: Any
    ) -> Any:
        method = _Method(self, continuation, client_call_details)
        replay = Replay(request_iterator, None)
        return SyncStream(method, method.call(Kind.STREAM_STREAM, None), {}, replay)

    def _blocked(self, method: _Method, call: Call, replay: Replay | None) -> Any:
        answered: list[Any] = []

        def attempt(call: Call, stop: Signal | None) -> Any:
            request = call.request if replay is None else replay.attempt(call)
            with method.begun(call, request, {}) as outcome:
                try:
                    reply = outcome.result()
                except grpc.RpcError as error:
                    raise status.failed(error) from None
            call.committed = True
            answered[:] = [outcome]
            return reply

        try:
            reply = self.driver.drive(self.flow(call), call, attempt)
        except MeshError as error:
            raise status.surface_blocking(error) from None
        finally:
            if replay is not None:
                replay.end()
        return answered[0] if answered else Reply(reply, tuple(call.notes))
