"""
What a stub holds for each of its methods: a callable that makes one call after another.

The method's contract is read once, when the stub is made; per call only the deadline, the key and
the metadata are looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from time import monotonic
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from mesh.call import Call, Kind, Metadata, Method
from mesh.client import contract, wire
from mesh.client.calls import UnaryUnaryCall
from mesh.client.pool import READY
from mesh.client.streams import UnaryStreamCall
from mesh.client.writing import Source, StreamStreamCall, StreamUnaryCall

if TYPE_CHECKING:
    from mesh.client.channel import Channel
    from mesh.client.sync import SyncChannel

# grpc's blocking servers say 9.2e18 s where a call has no deadline; passed on, that fails at once.
FOREVER = 1e9
NO_OPTIONS: dict[str, Any] = {}


class MultiCallable:
    """One method of one stub on one mesh channel."""

    kind: Kind

    def __init__(
        self,
        channel: Channel | SyncChannel,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> None:
        self.channel: Any = channel
        self.serializer = request_serializer
        self._path = method
        self._deserializer = response_deserializer
        self._registered = _registered_method
        self._method, self._keyed = channel.contracts(method, self.kind)

    def on(self, channel: grpc.aio.Channel) -> Any:
        """The same method on a real channel; streamed requests come to it serialized."""
        streamed = self.kind in (Kind.STREAM_UNARY, Kind.STREAM_STREAM)
        serializer = None if streamed else self.serializer
        make = getattr(channel, self.kind.value)
        return make(self._path, serializer, self._deserializer, self._registered)

    def begin_now(self, call: Call, request: Any, options: dict[str, Any]) -> wire.Begun | None:
        """One attempt's call of grpc's own and its link; None where the link does not stand."""
        link = wire.link_of(self.channel.pool, call)
        if link.channel.get_state() is not READY:
            return None
        multi = link.callables.get(self)
        if multi is None:
            multi = link.callables[self] = self.on(link.channel)
        timeout, metadata = wire.timeout(call), wire.metadata(call)
        if options:
            return multi(request, timeout=timeout, metadata=metadata, **options), link
        return multi(request, timeout=timeout, metadata=metadata), link

    async def begin(self, call: Call, request: Any, options: dict[str, Any]) -> wire.Begun:
        """The same, once the link stands; CallFailed when it cannot."""
        while (begun := self.begin_now(call, request, options)) is None:
            await wire.connect(wire.link_of(self.channel.pool, call), call)
        return begun

    def _call(
        self,
        request: Any,
        timeout: float | None,
        metadata: Iterable[tuple[str, str | bytes]] | None,
        wait_for_ready: bool | None,
    ) -> Call:
        self.channel.check()
        return new_call(self._method, self._keyed, request, timeout, metadata, wait_for_ready)

    def _options(
        self,
        credentials: grpc.CallCredentials | None,
        compression: grpc.Compression | None,
    ) -> dict[str, Any]:
        if credentials is None and compression is None:
            return NO_OPTIONS
        options: dict[str, Any] = {}
        if credentials is not None:
            if not self.channel.secure:
                raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
            options["credentials"] = credentials
        if compression is not None:
            options["compression"] = compression
        return options


def new_call(
    method: Method,
    keyed: bool,
    request: Any,
    timeout: float | None,
    metadata: Iterable[tuple[str, str | bytes]] | None,
    wait_for_ready: bool | None,
) -> Call:
    """The logical call that a caller asks for."""
    given: Metadata = tuple(metadata) if metadata else ()
    deadline = None if timeout is None or timeout >= FOREVER else monotonic() + timeout
    key = contract.key_of(request, keyed, given) if given or keyed else None
    return Call(method, request, given, deadline, wait_for_ready is True, key)


class UnaryUnary(MultiCallable, grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    kind = Kind.UNARY_UNARY

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryUnaryCall:
        self.channel.check()
        call = new_call(self._method, self._keyed, request, timeout, metadata, wait_for_ready)
        options = NO_OPTIONS
        if credentials is not None or compression is not None:
            options = self._options(credentials, compression)
        return UnaryUnaryCall(self, call, options)


class UnaryStream(MultiCallable, grpc.aio.UnaryStreamMultiCallable[Any, Any]):
    kind = Kind.UNARY_STREAM

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> UnaryStreamCall:
        call = self._call(request, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        return UnaryStreamCall(self, call, options)


class StreamUnary(MultiCallable, grpc.aio.StreamUnaryMultiCallable[Any, Any]):
    kind = Kind.STREAM_UNARY

    def __call__(
        self,
        request_iterator: Source | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamUnaryCall:
        call = self._call(None, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        return StreamUnaryCall(self, call, options, request_iterator)


class StreamStream(MultiCallable, grpc.aio.StreamStreamMultiCallable[Any, Any]):
    kind = Kind.STREAM_STREAM

    def __call__(
        self,
        request_iterator: Source | None = None,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> StreamStreamCall:
        call = self._call(None, timeout, metadata, wait_for_ready)
        options = self._options(credentials, compression)
        return StreamStreamCall(self, call, options, request_iterator)
