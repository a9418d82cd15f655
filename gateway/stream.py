"""
A stream of replies as HTTP, in the form that Accept names.

    application/x-ndjson     one message a line
    text/event-stream        `data:` lines, `event: error`, and `: ping` when nothing came for long
    anything else            one JSON array

Before the first message an error is an answer of its own; after it the status line is gone and
the error is the last element, `{"error": <google.rpc.Status>}`.  A stream of google.api.HttpBody is
its content, piece by piece; an error after the first piece cuts it off, so that it looks cut off.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import grpc.aio

from gateway import headers
from gateway.accept import preferred
from gateway.exchange import Answer, Exchange, RawHeaders
from gateway.jsontext import dumps
from gateway.status import Problem, problem
from gateway.watched import CutShort
from mesh.errors import Code

log = logging.getLogger(__name__)

PING = b": ping\n\n"


@dataclass(frozen=True, slots=True)
class Form:
    """How messages become one body."""

    media_type: str
    before: bytes
    between: bytes
    after: bytes
    wrap: Callable[[bytes], bytes]
    error: Callable[[bytes], bytes]
    ping: bytes = b""


def _line(data: bytes) -> bytes:
    return data + b"\n"


def _event(data: bytes) -> bytes:
    return b"data: " + data + b"\n\n"


ARRAY = Form("application/json", b"[", b",\n", b"]\n", bytes, bytes)
NDJSON = Form("application/x-ndjson", b"", b"", b"", _line, _line)
EVENTS = Form(
    "text/event-stream", b"", b"", b"", _event, lambda data: b"event: error\n" + _event(data), PING
)


# Each by the names that it goes by; the first is the default.
FORMS = {
    "application/json": ARRAY,
    "application/x-ndjson": NDJSON,
    "application/ndjson": NDJSON,
    "application/jsonl": NDJSON,
    "text/event-stream": EVENTS,
}
_NAMES = tuple(FORMS)


async def answer(
    exchange: Exchange,
    call: Any,
    write: Callable[[Any], Any],
    failed: Callable[[grpc.aio.AioRpcError], Problem],
) -> Answer:
    """
    The answer for a call that streams replies; cancelled when it is not read to its end.

    `write` makes JSON of a message, `failed` a Problem of an error.
    """
    form = FORMS[preferred(exchange.accept, _NAMES)]
    patience = exchange.limits.ping_seconds if form.ping else None
    reading, extra = await _first(exchange, call, patience, failed)
    told: RawHeaders = [
        (b"content-type", form.media_type.encode()),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),
        *extra,
    ]
    return Answer(200, told, _body(exchange, form, call, reading, write, failed))


async def content(
    exchange: Exchange,
    call: Any,
    part: str,
    failed: Callable[[grpc.aio.AioRpcError], Problem],
) -> Answer:
    """The answer for a stream of google.api.HttpBody, or of messages that hold it in `part`."""
    reading, extra = await _first(exchange, call, None, failed)
    first = reading.result()
    kind = b"application/octet-stream"
    if first is not grpc.aio.EOF:
        kind = headers.media_type((getattr(first, part) if part else first).content_type)
    return Answer(200, [(b"content-type", kind), *extra], _pieces(exchange, call, part, first))


async def _pieces(exchange: Exchange, call: Any, part: str, message: Any) -> AsyncIterator[bytes]:
    try:
        while message is not grpc.aio.EOF:
            data: bytes = (getattr(message, part) if part else message).data
            if data:
                yield data
            message = await call.read()
    except grpc.aio.AioRpcError as error:
        log.warning("%s: its content ends early: %s", exchange.path, error.code().name)
        raise CutShort from error
    finally:
        call.cancel()


async def _first(
    exchange: Exchange,
    call: Any,
    patience: float | None,
    failed: Callable[[grpc.aio.AioRpcError], Problem],
) -> tuple[asyncio.Future[Any], RawHeaders]:
    """The first message, or the reading of it when that takes longer; and the call's headers."""
    reading = asyncio.ensure_future(_read(call))
    extra: RawHeaders = []
    try:
        async with exchange.watched(after=0):
            await asyncio.wait([reading], timeout=patience)
            if reading.done():
                reading.result()
                extra = headers.response(await call.initial_metadata())
    except grpc.aio.AioRpcError as error:
        raise failed(error) from error
    except BaseException:
        reading.cancel()
        call.cancel()
        raise
    return reading, extra


async def _body(
    exchange: Exchange,
    form: Form,
    call: Any,
    reading: asyncio.Future[Any],
    write: Callable[[Any], Any],
    failed: Callable[[grpc.aio.AioRpcError], Problem],
) -> AsyncIterator[bytes]:
    first, lead = True, form.before
    stopping = asyncio.ensure_future(exchange.stopping.wait())
    try:
        while True:
            timeout = exchange.limits.ping_seconds if form.ping else None
            await asyncio.wait(
                [reading, stopping], timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
            try:
                if not reading.done():
                    if stopping.done():
                        raise _stopping()
                    yield lead + form.ping
                    lead = b""
                    continue
                message = reading.result()
                if message is grpc.aio.EOF:
                    break
                piece = form.wrap(dumps(write(message)))
            except (grpc.aio.AioRpcError, Problem) as error:
                shown = failed(error) if isinstance(error, grpc.aio.AioRpcError) else error
                last = form.error(dumps({"error": shown.as_status()}))
                yield lead + (b"" if first else form.between) + last + form.after
                return
            reading = asyncio.ensure_future(_read(call))
            yield lead + (b"" if first else form.between) + piece
            first, lead = False, b""
        if lead or form.after:
            yield lead + form.after
    finally:
        stopping.cancel()
        reading.cancel()
        call.cancel()


async def _read(call: Any) -> Any:
    return await call.read()


def _stopping() -> Problem:
    return problem(
        Code.UNAVAILABLE, "the gateway is stopping", reason="GATEWAY_STOPPING", retry_after=1.0
    )
