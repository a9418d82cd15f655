"""
What a blocking stub holds for each of its methods.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from mesh.call import Call, Kind
from mesh.client import status, wire
from mesh.client.callables import MultiCallable
from mesh.client.sync_calls import SyncFuture, SyncStream, UnaryAttempts, link_of
from mesh.client.sync_reply import Reply
from mesh.client.sync_requests import Replay
from mesh.errors import MeshError


class SyncMultiCallable(MultiCallable):
    """One method of one blocking stub."""

    @contextmanager
    def begun(self, call: Call, request: Any, options: dict[str, Any]) -> Iterator[Any]:
        """One attempt's call of grpc's own, in flight until the block is left."""
        link = link_of(self.channel.pool.links, call)
        link.begin()
        try:
            yield link.callable(self)(request, wire.timeout(call), wire.metadata(call), **options)
        finally:
            link.end()

    def _blocked(
        self,
        call: Call,
        options: dict[str, Any],
        replay: Replay | None,
        *,
        with_call: bool,
    ) -> Any:
        """The reply, and grpc's call that brought it if wanted, by a flow run on this thread."""
        attempts, channel = UnaryAttempts(self, options, replay, with_call=with_call), self.channel
        try:
            reply = channel.driver.drive(channel.flow(call), call, attempts)
        except MeshError as error:
            raise status.surface_blocking(error) from None
        finally:
            if replay is not None:
                replay.end()
        if with_call and attempts.inner is None:
            return reply, Reply(reply, tuple(call.notes))
        return reply, attempts.inner


class SyncUnaryUnary(SyncMultiCallable, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]
    kind = Kind.UNARY_UNARY

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(request, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        return self._blocked(call, options, None, with_call=False)[0]

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(request, timeout, metadata, wait_for_ready)
        return self._blocked(call, self._options(credentials, compression), None, with_call=True)

    def future(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(request, timeout, metadata, wait_for_ready)
        return SyncFuture(self, call, self._options(credentials, compression))


class SyncUnaryStream(SyncMultiCallable, grpc.UnaryStreamMultiCallable):  # type: ignore[type-arg]
    kind = Kind.UNARY_STREAM

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(request, timeout, metadata, wait_for_ready)
        return SyncStream(self, call, self._options(credentials, compression))


class SyncStreamUnary(SyncMultiCallable, grpc.StreamUnaryMultiCallable):  # type: ignore[type-arg]
    kind = Kind.STREAM_UNARY

    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(None, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        replay = Replay(request_iterator, self.serializer)
        return self._blocked(call, options, replay, with_call=False)[0]

    def with_call(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(None, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        replay = Replay(request_iterator, self.serializer)
        return self._blocked(call, options, replay, with_call=True)

    def future(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(None, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        return SyncFuture(self, call, options, Replay(request_iterator, self.serializer))


class SyncStreamStream(SyncMultiCallable, grpc.StreamStreamMultiCallable):  # type: ignore[type-arg]
    kind = Kind.STREAM_STREAM

    def __call__(
        self,
        request_iterator: Iterable[Any],
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> Any:
        call = self._call(None, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        return SyncStream(self, call, options, Replay(request_iterator, self.serializer))
