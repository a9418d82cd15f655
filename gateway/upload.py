"""
A stream of requests from one HTTP body: a JSON array, or one message a line (NDJSON).

Lines are sent on as they arrive, an array once it is whole; of google.api.HttpBody every piece of
the body is a message, whatever it says.  A message that cannot be read ends
the call; the error says which message it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from gateway.bind import Binder
from gateway.body import too_large
from gateway.exchange import NDJSON_TYPES, Exchange
from gateway.invalid import Invalid, shown
from gateway.jsontext import loads
from gateway.status import Problem
from gateway.watched import ClientGone


class Upload:
    """The messages of one request's body; `failure` is why they stopped short."""

    def __init__(self, exchange: Exchange, binder: Binder) -> None:
        self.call: Any = None
        self.read = asyncio.Event()
        self.failure: Exception | None = None
        self._exchange = exchange
        self._binder = binder

    async def messages(self) -> AsyncIterator[Any]:
        """What the call is fed; on a failure the call is cancelled, never half-closed."""
        try:
            async for value in self._values():
                yield value
        except (Invalid, Problem, ClientGone) as error:
            self.failure = error
        finally:
            self.read.set()
        if self.failure is not None:
            self.call.cancel()
            # Ending here would tell the service that this was all.
            await asyncio.Event().wait()

    async def _values(self) -> AsyncIterator[Any]:
        self._binder.no_query(self._exchange.query)
        if self._binder.raw:
            kind = self._exchange.header(b"content-type")
            async for piece in self._exchange.pieces(None):
                yield self._binder.piece(piece, kind)
            return
        if self._exchange.media_type not in NDJSON_TYPES:
            value = loads(await self._exchange.body() or b"[]")
            if not isinstance(value, list):
                raise Invalid(f"the body is {shown(value)} and not an array")
            for index, item in enumerate(value):
                yield self._element(index, item)
            return
        limit = self._exchange.limits.body_bytes
        rest, index = b"", 0
        async for piece in self._exchange.pieces(None):
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > limit:
                raise too_large(limit)
            for line in lines:
                if line.strip():
                    yield self._element(index, line)
                    index += 1
        if rest.strip():
            yield self._element(index, rest)

    def _element(self, index: int, value: Any) -> Any:
        try:
            return self._binder.element(loads(value) if isinstance(value, bytes) else value)
        except Invalid as error:
            error.under(index)
            raise
