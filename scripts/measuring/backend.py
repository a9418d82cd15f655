"""
A gRPC server that costs a few microseconds a call, so that what is measured is the gateway.

    python -m scripts.measuring.backend       prints its port, serves until standard input closes

Real HTTP/2 and real messages: header blocks are decoded, flow control is kept in both directions,
each request is parsed and each order answered is made of it.  Only what a gateway needs: unary
CreateOrder and GetOrder, and server reflection.  A grpc.aio server takes 300 us a call, more than
the gateways do, and would be all that is measured.
"""

from __future__ import annotations

import asyncio
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any

import hpack
import uvloop
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha import reflection_pb2 as pb
from shop.orders.v1 import orders_pb2

from scripts.measuring.orders import ORDER

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
INITIAL_WINDOW, MAX_FRAME = 65_535, 16_384
# What we take: so much of a stream, so much of a connection before it is told to go on.
STREAM_WINDOW, CONNECTION_WINDOW = 1 << 22, 1 << 30
_HEAD = struct.Struct(">HBBBI")
_PREFIX = struct.Struct(">BI")

Unary = Callable[[bytes], bytes]
Methods = Mapping[str, Unary]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One HTTP/2 frame (RFC 9113 4.1)."""
    return _HEAD.pack(len(payload) >> 8, len(payload) & 255, kind, flags, stream) + payload


def encoded(*fields: tuple[str, str]) -> bytes:
    """A header block that needs no dynamic table, and so is the same each time."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields))


OPENING = encoded((":status", "200"), ("content-type", "application/grpc"))
TRAILERS = encoded(("grpc-status", "0"))
UNKNOWN = encoded((":status", "200"), ("content-type", "application/grpc"), ("grpc-status", "12"))


class Stream:
    """One call: its path, what has come of its request, what of its answer may not go out yet."""

    __slots__ = ("conversation", "opened", "path", "received", "waiting", "window")

    def __init__(self, path: str, window: int) -> None:
        self.path = path
        self.received = b""
        self.window = window
        self.waiting = b""
        self.opened = False
        self.conversation = path.endswith("ServerReflectionInfo")


class Connection(asyncio.Protocol):
    """One client's connection."""

    def __init__(self, methods: Methods, reflect: Unary) -> None:
        self._methods = methods
        self._reflect = reflect
        self._streams: dict[int, Stream] = {}
        self._buffer = b""
        self._greeted = False
        self._out: list[bytes] = []
        self._decoder = hpack.Decoder()
        # "SETTINGS_HEADER_TABLE_SIZE = 0": no block depends on another, each is decoded once.
        self._paths: dict[bytes, str] = {}
        self._block = b""
        self._window = INITIAL_WINDOW
        self._stream_window = INITIAL_WINDOW
        self._taken = 0

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        settings = struct.pack(">HIHIHI", 1, 0, 3, 1000, 4, STREAM_WINDOW)
        self._say(frame(SETTINGS, 0, 0, settings))
        self._say(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", CONNECTION_WINDOW)))

    def data_received(self, data: bytes) -> None:
        data = self._buffer + data if self._buffer else data
        at, size = 0, len(data)
        if not self._greeted:
            if size < len(PREFACE):
                self._buffer = data
                return
            at, self._greeted = len(PREFACE), True
        while size - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + 9 + (high << 8 | low)
            if end > size:
                break
            self._frame(kind, flags, stream, data[at + 9 : end])
            at = end
        self._buffer = data[at:]

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == DATA:
            self._data(flags, stream, payload)
        elif kind in (HEADERS, CONTINUATION):
            self._headers(kind, flags, stream, payload)
        elif kind == SETTINGS and not flags & ACK:
            self._settings(payload)
        elif kind == PING and not flags & ACK:
            self._say(frame(PING, ACK, 0, payload))
        elif kind == WINDOW_UPDATE:
            self._widen(stream, int.from_bytes(payload, "big"))
        elif kind == RST_STREAM:
            self._streams.pop(stream, None)

    def _headers(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            if flags & PADDED:
                payload = payload[1 : len(payload) - payload[0]]
            if flags & PRIORITY:
                payload = payload[5:]
        self._block += payload
        if not flags & END_HEADERS:
            return
        block, self._block = self._block, b""
        path = self._paths.get(block)
        if path is None:
            fields: dict[Any, Any] = dict(self._decoder.decode(block))
            path = str(fields[":path"])
            if len(self._paths) < 10_000 and not self._decoder.header_table.dynamic_entries:
                self._paths[block] = path
        self._streams[stream] = Stream(path, self._stream_window)

    def _data(self, flags: int, number: int, payload: bytes) -> None:
        self._taken += len(payload)
        if self._taken > CONNECTION_WINDOW // 2:
            self._say(frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", self._taken)))
            self._taken = 0
        stream = self._streams.get(number)
        if stream is None:
            return
        if flags & PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        stream.received = stream.received + payload if stream.received else payload
        if stream.conversation:
            self._converse(number, stream, ended=bool(flags & END_STREAM))
        elif flags & END_STREAM:
            method = self._methods.get(stream.path)
            if method is None:
                del self._streams[number]
                self._say(frame(HEADERS, END_HEADERS | END_STREAM, number, UNKNOWN))
            else:
                self._answer(number, stream, method(stream.received[5:]), last=True)

    def _converse(self, number: int, stream: Stream, *, ended: bool) -> None:
        while len(stream.received) >= 5:
            end = 5 + int.from_bytes(stream.received[1:5], "big")
            if len(stream.received) < end:
                break
            request, stream.received = stream.received[5:end], stream.received[end:]
            self._answer(number, stream, self._reflect(request), last=False)
        if ended:
            del self._streams[number]
            self._say(frame(HEADERS, END_HEADERS | END_STREAM, number, TRAILERS))

    def _answer(self, number: int, stream: Stream, message: bytes, *, last: bool) -> None:
        body = _PREFIX.pack(0, len(message)) + message
        if last and len(body) <= min(self._window, stream.window, MAX_FRAME):
            del self._streams[number]
            self._window -= len(body)
            self._say(
                frame(HEADERS, END_HEADERS, number, OPENING)
                + frame(DATA, 0, number, body)
                + frame(HEADERS, END_HEADERS | END_STREAM, number, TRAILERS)
            )
            return
        if not stream.opened:
            stream.opened = True
            self._say(frame(HEADERS, END_HEADERS, number, OPENING))
        stream.waiting += body
        self._flow(number, stream)
        if last and not stream.waiting:
            del self._streams[number]
            self._say(frame(HEADERS, END_HEADERS | END_STREAM, number, TRAILERS))

    def _flow(self, number: int, stream: Stream) -> None:
        """Send what the windows let through."""
        while stream.waiting:
            size = min(self._window, stream.window, MAX_FRAME, len(stream.waiting))
            if size <= 0:
                return
            piece, stream.waiting = stream.waiting[:size], stream.waiting[size:]
            self._window -= size
            stream.window -= size
            self._say(frame(DATA, 0, number, piece))

    def _settings(self, payload: bytes) -> None:
        for name, value in struct.iter_unpack(">HI", payload):
            if name == 4:
                for stream in self._streams.values():
                    stream.window += value - self._stream_window
                self._stream_window = value
        self._say(frame(SETTINGS, ACK, 0))

    def _widen(self, number: int, size: int) -> None:
        if number == 0:
            self._window += size
        elif number in self._streams:
            self._streams[number].window += size
        for name, stream in list(self._streams.items()):
            if stream.waiting:
                self._flow(name, stream)
                if not stream.waiting and not stream.conversation:
                    del self._streams[name]
                    self._say(frame(HEADERS, END_HEADERS | END_STREAM, name, TRAILERS))

    def _say(self, data: bytes) -> None:
        """What one turn of the loop has to say is one write."""
        if not self._out:
            asyncio.get_running_loop().call_soon(self._flush)
        self._out.append(data)

    def _flush(self) -> None:
        out, self._out = self._out, []
        self._transport.write(b"".join(out))


def _create(request: bytes) -> bytes:
    return bytes(orders_pb2.CreateOrderRequest.FromString(request).order.SerializeToString())


def _get(request: bytes) -> bytes:
    order_id = orders_pb2.GetOrderRequest.FromString(request).order_id
    if order_id != ORDER.order_id:
        raise ValueError(f"asked for {order_id!r}")
    return bytes(ORDER.SerializeToString())


def _reflecting() -> Unary:
    service = orders_pb2.DESCRIPTOR.services_by_name["OrderService"].full_name
    servicer: Any = reflection.ReflectionServicer((service,), descriptor_pool.Default())

    def reflect(request: bytes) -> bytes:
        asked = pb.ServerReflectionRequest.FromString(request)
        answer = next(iter(servicer.ServerReflectionInfo(iter([asked]), None)))
        return bytes(answer.SerializeToString())

    return reflect


async def serve() -> None:
    """Serve on a free port until standard input closes; prints the port."""
    prefix = "/shop.orders.v1.OrderService/"
    methods = {f"{prefix}CreateOrder": _create, f"{prefix}GetOrder": _get}
    reflect = _reflecting()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(methods, reflect), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    uvloop.run(serve())
