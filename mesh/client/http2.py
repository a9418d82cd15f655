"""
A grpc.aio.Channel to one address whose unary calls run on our own HTTP/2 (mesh.transport).

    unary_unary                             --> Subchannel of mesh.transport
    unary_stream stream_unary stream_stream --> grpcio, on a connection of its own, made when needed

What a caller sees is what grpcio shows; the tests run on both.  Beyond that an error says what
grpcio cannot: whether the server's headers had arrived, and whether a handler may have seen the
call.  Without TLS: whoever has credentials is given grpcio's own channel.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.metadata import version
from time import monotonic
from types import TracebackType
from typing import Any, Self

import grpc
import grpc.aio

from mesh.client.http2_call import UnaryUnaryCall
from mesh.client.options import Options
from mesh.transport import fields
from mesh.transport.message import DEFLATE, ENCODINGS, GZIP
from mesh.transport.sending import MOST_WAITING
from mesh.transport.subchannel import Settings, State, Subchannel

STATES = {
    State.IDLE: grpc.ChannelConnectivity.IDLE,
    State.CONNECTING: grpc.ChannelConnectivity.CONNECTING,
    State.READY: grpc.ChannelConnectivity.READY,
    State.TRANSIENT_FAILURE: grpc.ChannelConnectivity.TRANSIENT_FAILURE,
    State.SHUTDOWN: grpc.ChannelConnectivity.SHUTDOWN,
}
ENCODING = {grpc.Compression.Gzip: GZIP, grpc.Compression.Deflate: DEFLATE}
# grpc's own for what -1 says: no limit.
UNLIMITED = 2**31 - 1


class Http2Channel(grpc.aio.Channel):
    """The channel to `address`, "host:port" or "unix:path"; `options` by grpcio's names."""

    def __init__(self, address: str, options: Options = ()) -> None:
        self.address = address
        self._options = tuple(options)
        told = dict(options)
        settings = _settings(told)
        self.subchannel = Subchannel(address, settings, on_state=self._on_state)
        self.loop = asyncio.get_running_loop()
        self.calls: set[UnaryUnaryCall] = set()
        self.writer = fields.MetadataWriter()
        self.largest_request = _size(told, "grpc.max_send_message_length", UNLIMITED)
        local = "localhost" if address.startswith("unix:") else address
        self._authority = str(told.get("grpc.default_authority") or local)
        agents = [told.get("grpc.primary_user_agent"), f"proxyless/{version('proxyless')}"]
        self._agent = " ".join(str(agent) for agent in agents if agent)
        # Calls made before the connection stands, in their order.
        self._pending: dict[UnaryUnaryCall, None] = {}
        self._grpc: grpc.aio.Channel | None = None

    # -- unary calls

    def unary_unary(
        self,
        method: str,
        request_serializer: Any = None,
        response_deserializer: Any = None,
        _registered_method: bool | None = False,
    ) -> grpc.aio.UnaryUnaryMultiCallable[Any, Any]:
        return UnaryUnary(self, method, request_serializer, response_deserializer)

    def head(self, path: str, encoding: str) -> fields.Head:
        """What all requests of a method begin with."""
        return fields.head(
            path, self._authority, self._agent, encodings=ENCODINGS, encoding=encoding
        )

    def submit(self, call: UnaryUnaryCall) -> None:
        """Put a call on the connection, once there is one."""
        connection = self.subchannel.connection
        if connection is not None:
            call.send(connection)
            return
        state = self.subchannel.state
        if state is State.SHUTDOWN:
            raise grpc.aio.UsageError("Channel is closed.")
        self.subchannel.connect()
        if state is State.TRANSIENT_FAILURE and not call.wait_for_ready:
            call.unsent(f"no connection to {self.address}: {self.subchannel.trouble}")
        elif len(self._pending) >= MOST_WAITING:
            call.unsent("too many calls wait for a connection")
        else:
            self._pending[call] = None

    def forget(self, call: UnaryUnaryCall) -> None:
        """A call has ended."""
        self.calls.discard(call)
        if self._pending:
            self._pending.pop(call, None)

    def _on_state(self, state: State) -> None:
        if not self._pending:
            return
        if state is State.READY:
            # In a turn of its own: the connection is put in place right after this.
            self.loop.call_soon(self._send_pending)
        elif state is State.TRANSIENT_FAILURE:
            for call in [call for call in self._pending if not call.wait_for_ready]:
                call.unsent(f"no connection to {self.address}: {self.subchannel.trouble}")

    def _send_pending(self) -> None:
        pending, self._pending = list(self._pending), {}
        for call in pending:
            if not call.done():
                self.submit(call)

    # -- streams

    def unary_stream(self, *method: Any, **method_too: Any) -> Any:
        return self._streaming.unary_stream(*method, **method_too)

    def stream_unary(self, *method: Any, **method_too: Any) -> Any:
        return self._streaming.stream_unary(*method, **method_too)

    def stream_stream(self, *method: Any, **method_too: Any) -> Any:
        return self._streaming.stream_stream(*method, **method_too)

    @property
    def _streaming(self) -> grpc.aio.Channel:
        if self._grpc is None:
            self._grpc = grpc.aio.insecure_channel(self.address, self._options)
        return self._grpc

    # -- grpc.aio.Channel

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self, grace: float | None = None) -> None:
        """Refuse new calls, let those in flight finish for `grace` seconds, cancel the rest."""
        self.subchannel.shut()
        until = monotonic() + (grace or 0.0)
        if grace and self.calls:
            ends = [asyncio.ensure_future(call.code()) for call in self.calls]
            await asyncio.wait(ends, timeout=grace)
            for end in ends:
                end.cancel()
        for call in list(self.calls):
            call.cancel()
        if self._grpc is not None:
            await self._grpc.close(max(0.0, until - monotonic()) if grace else None)
        self.subchannel.close()

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        if try_to_connect:
            self.subchannel.connect()
        return STATES[self.subchannel.state]

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        while self.get_state() is last_observed_state:
            await self.subchannel.changed(self.subchannel.state)

    async def channel_ready(self) -> None:
        while (state := self.get_state(try_to_connect=True)) is not STATES[State.READY]:
            if state is STATES[State.SHUTDOWN]:
                raise grpc.aio.UsageError("Channel is closed.")
            await self.wait_for_state_change(state)


class UnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """One method of one stub on one channel."""

    def __init__(
        self,
        channel: Http2Channel,
        path: str,
        serializer: Callable[[Any], bytes] | None,
        deserializer: Callable[[bytes], Any] | None,
    ) -> None:
        self.channel = channel
        self.path = path
        self.serializer = serializer
        self.deserializer = deserializer
        self._heads = {"": channel.head(path, "")}

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
        if credentials is not None:
            raise grpc.aio.UsageError("Call credentials are only valid on secure channels")
        encoding = "" if compression is None else ENCODING.get(compression, "")
        return UnaryUnaryCall(
            self, request, timeout, metadata, encoding, wait_for_ready=wait_for_ready is True
        )

    def head(self, encoding: str) -> fields.Head:
        """What its requests begin with."""
        found = self._heads.get(encoding)
        if found is None:
            found = self._heads[encoding] = self.channel.head(self.path, encoding)
        return found


def _settings(told: Mapping[str, Any]) -> Settings:
    """grpcio's channel arguments as far as they mean something here."""

    def seconds(name: str, default: float) -> float:
        return float(told[name]) / 1000 if name in told else default

    default = Settings()
    base = seconds("grpc.initial_reconnect_backoff_ms", default.backoff.base)
    cap = seconds("grpc.max_reconnect_backoff_ms", default.backoff.cap)
    headers = told.get("grpc.absolute_max_metadata_size", told.get("grpc.max_metadata_size"))
    return Settings(
        backoff=replace(default.backoff, base=base, cap=max(base, cap)),
        connect_timeout=seconds("grpc.min_reconnect_backoff_ms", default.connect_timeout),
        keepalive_time=seconds("grpc.keepalive_time_ms", default.keepalive_time),
        keepalive_timeout=seconds("grpc.keepalive_timeout_ms", default.keepalive_timeout),
        largest_reply=_size(told, "grpc.max_receive_message_length", default.largest_reply),
        largest_headers=default.largest_headers if headers is None else int(headers),
    )


def _size(told: Mapping[str, Any], name: str, default: int) -> int:
    size = int(told.get(name, default))
    return UNLIMITED if size < 0 else size
