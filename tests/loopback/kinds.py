"""A server with all four kinds of rpcs, whose callers say in metadata what shall happen."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio

KINDS = ("unary_unary", "unary_stream", "stream_unary", "stream_stream")
REQUESTS = (b"one", b"two", b"three")
SENT = (("a", "1"), ("b-bin", b"\0\xff"), ("a", "2"), ("c", "3"), ("a", "1"))
HEAD = (("head", "1"), ("x-bin", b"\0\1"), ("head", "2"))
TAIL = (("tail", "1"), ("other", "o"), ("tail", "2"), ("tail", "1"))
# What the sides add of their own.
OURS = frozenset(("a", "b-bin", "c", "do", "head", "x-bin", "tail", "other", "authorization"))


def told(metadata: Any) -> list[tuple[str, str | bytes]]:
    """Metadata as pairs in their order, less what grpc itself puts in."""
    return [(key, value) for key, value in metadata or () if key in OURS]


def plainly(details: str) -> str:
    """Details less what the core sometimes says around them: that the stream was removed."""
    return details.removeprefix("Stream removed (").removesuffix(")")


def do(what: str) -> tuple[tuple[str, str | bytes], ...]:
    """The metadata that asks for something."""
    return (*SENT, ("do", what))


class Kinds(grpc.GenericRpcHandler):
    """ok; fail (before any header) or torn (after one); hang; tell (the requests that came)."""

    def __init__(self) -> None:
        self.seen: list[list[tuple[str, str | bytes]]] = []
        # How many calls are being served, and how many of them were cancelled.
        self.serving = self.cancelled = 0

    def service(self, handler_call_details: Any) -> Any:
        service, kind = handler_call_details.method.strip("/").split("/")
        if service != "all.Kinds" or kind not in KINDS:
            return None
        return getattr(grpc, f"{kind}_rpc_method_handler")(getattr(self, kind))

    async def _serve(self, context: Any, requests: list[bytes]) -> list[bytes]:
        metadata = tuple(context.invocation_metadata())
        self.seen.append(told(metadata))
        what = dict(metadata).get("do", "ok")
        if what == "fail":
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now", TAIL)
        await context.send_initial_metadata(HEAD)
        if what == "torn":
            await context.abort(grpc.StatusCode.DATA_LOSS, "torn", TAIL)
        if what == "hang":
            self.serving += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        context.set_trailing_metadata(TAIL)
        return requests

    async def unary_unary(self, request: bytes, context: Any) -> bytes:
        return b"".join(await self._serve(context, [request]))

    async def unary_stream(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        for reply in await self._serve(context, [request, request, request]):
            yield reply

    async def stream_unary(self, requests: AsyncIterator[bytes], context: Any) -> bytes:
        # The half-close is what ends this.
        return b"".join(await self._serve(context, [request async for request in requests]))

    async def stream_stream(
        self, requests: AsyncIterator[bytes], context: Any
    ) -> AsyncIterator[bytes]:
        for reply in await self._serve(context, [request async for request in requests]):
            yield reply


class Wire:
    """A way to a server on which bytes are counted."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.up = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._port)

        async def pump(come: asyncio.StreamReader, go: asyncio.StreamWriter, *, up: bool) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await come.read(65536):
                    self.up += len(data) if up else 0
                    go.write(data)
                    await go.drain()
            go.close()

        await asyncio.gather(
            pump(reader, there_writer, up=True), pump(there_reader, writer, up=False)
        )
