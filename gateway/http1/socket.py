"""
A WebSocket, from its handshake to its close, as ASGI has it.

    connect --> accept --> receive, send ... --> close          by either side
            --> http.response                                   not opened, and told why

Frames are wsproto's; a message that comes in pieces is put together here, up to `largest` bytes.
What comes before the application has read what came before it waits in the kernel.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
from collections import deque
from typing import Any

from wsproto import ConnectionType
from wsproto.connection import Connection as Frames
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from gateway.http1 import framing
from gateway.http1.cycle import Cycle, Event

# "concatenated with the string" - RFC 6455, 4.2.2
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL_ERROR, ABNORMAL, TOO_BIG = 1002, 1006, 1009
# How long the other side may take to say goodbye too.
GOODBYE_SECONDS = 1.0


def opens(scope: Event) -> bool:
    """Whether a request is a WebSocket's handshake (RFC 6455, 4.2.1)."""
    if scope["type"] == "websocket":
        return True
    found: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        if name in (b"upgrade", b"connection") or name.startswith(b"sec-websocket-"):
            found[name] = found[name] + b"," + value if name in found else value
    if b"upgrade" not in found or scope["method"] != "GET" or scope["http_version"] != "1.1":
        return False
    tokens = [part.strip().lower() for part in found.get(b"connection", b"").split(b",")]
    return (
        found[b"upgrade"].strip().lower() == b"websocket"
        and b"upgrade" in tokens
        and found.get(b"sec-websocket-version") == b"13"
        and _is_key(found.get(b"sec-websocket-key", b""))
    )


def _is_key(key: bytes) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except binascii.Error:
        return False


class Socket:
    """A WebSocket on a connection whose handshake `cycle` is; `rest` came right behind it."""

    def __init__(self, wire: Any, cycle: Cycle, rest: bytes, largest: int) -> None:
        self._wire = wire
        self._cycle = cycle
        self._rest = rest
        self._largest = largest
        self._frames: Any = None
        self._events: deque[Event] = deque([{"type": "websocket.connect"}])
        self._pieces: list[Any] = []
        self._size = 0
        self._held = False
        # Whether it is closed, or was never opened.
        self.over = False
        self._waiter: asyncio.Future[None] | None = None
        self.scope = scope = cycle.scope
        key = next(value for name, value in scope["headers"] if name == b"sec-websocket-key")
        self._accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
        del scope["method"]
        scope["type"], scope["scheme"], scope["subprotocols"] = "websocket", "ws", []

    # -- what the connection says

    def fed(self, data: bytes) -> None:
        """Bytes of the client."""
        if self._frames is None:
            self._rest += data
            self._hold()
            return
        if self._frames.state is ConnectionState.CLOSED:
            return
        try:
            self._frames.receive_data(data)
            for event in self._frames.events():
                self._heard(event)
        except RemoteProtocolError as error:
            hint = error.event_hint
            code = hint.code if isinstance(hint, CloseConnection) else PROTOCOL_ERROR
            self._end(CloseConnection(code=code))

    def leave(self) -> None:
        """The client is gone."""
        if not self.over:
            self.over = True
            self._tell({"type": "websocket.disconnect", "code": ABNORMAL})

    def _heard(self, event: Any) -> None:
        if isinstance(event, CloseConnection):
            self._closed(event)
        elif self.over:
            return  # what the client says before it hears that it is over
        elif isinstance(event, TextMessage | BytesMessage):
            self._size += len(event.data)
            if self._size > self._largest:
                self._end(CloseConnection(code=TOO_BIG, reason="the message is too large"))
                return
            self._pieces.append(event.data)
            if event.message_finished:
                pieces, self._pieces, self._size = self._pieces, [], 0
                text = isinstance(event, TextMessage)
                data = "".join(pieces) if text else b"".join(pieces)
                self._tell({"type": "websocket.receive", ("text" if text else "bytes"): data})
                self._hold()
        elif isinstance(event, Ping):
            self._wire.write(self._frames.send(event.response()))

    def _closed(self, event: CloseConnection) -> None:
        """The client closes, or has heard that we do."""
        if not self.over:
            self._say(event.response())
            self.over = True
            self._tell({"type": "websocket.disconnect", "code": event.code})
        self._wire.bye()

    def _end(self, close: CloseConnection) -> None:
        """Close for what the client did, and tell the application."""
        self._say(close)
        self.over = True
        self._tell({"type": "websocket.disconnect", "code": close.code})
        self._wire.bye(GOODBYE_SECONDS)

    def _say(self, close: CloseConnection) -> None:
        try:
            self._wire.write(self._frames.send(close))
        except LocalProtocolError:
            return  # it is closed already

    def _tell(self, event: Event) -> None:
        self._events.append(event)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hold(self) -> None:
        if not self._held:
            self._held = True
            self._wire.hold()

    # -- ASGI

    async def receive(self) -> Event:
        """The next message, or that the client has left."""
        while not self._events:
            if self._held:
                self._held = False
                self._wire.release()
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        event = self._events.popleft()
        if event["type"] == "websocket.disconnect":
            self._events.append(event)  # it stays so
        return event

    async def send(self, event: Event) -> None:
        """Open, say, close; or refuse, as the HTTP request that it still is."""
        kind = event["type"]
        if kind.startswith("websocket.http.response."):
            await self._cycle.send({**event, "type": kind.removeprefix("websocket.")})
            self.over = self._cycle.over
        elif kind == "websocket.accept":
            headers = [
                (b"upgrade", b"websocket"),
                (b"connection", b"Upgrade"),
                (b"sec-websocket-accept", self._accept),
                *event.get("headers", ()),
            ]
            self._wire.write(framing.head(101, headers, self._wire.date()))
            self._frames = Frames(ConnectionType.SERVER)
            rest, self._rest = self._rest, b""
            if rest:
                self.fed(rest)
        elif self.over:
            await asyncio.sleep(0)
        elif kind == "websocket.send":
            text = event.get("text")
            said = TextMessage(text) if text is not None else BytesMessage(event["bytes"])
            self._wire.write(self._frames.send(said))
            await self._wire.drained()
        elif kind == "websocket.close":
            self._say(CloseConnection(code=event.get("code", 1000), reason=event.get("reason", "")))
            self.over = True
            self._wire.bye(GOODBYE_SECONDS)
