"""A server of a test, a stub to it, and what a call to it came to."""

from __future__ import annotations

from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2

from mesh.errors import Code, StatusError
from mesh.server import Server
from tests.server.echo import EchoStub

REFUSED = StatusError(
    Code.FAILED_PRECONDITION,
    "no stock",
    reason="OUT_OF_STOCK",
    domain="shop",
    metadata={"product_id": "p-1"},
    fields=[("items[0]", "is sold out")],
    retry_after=1.5,
    details=[error_details_pb2.RequestInfo(request_id="r-1")],
)


class Serving:
    """One server and a stub to it."""

    def __init__(self, servicer: object, **options: Any) -> None:
        self._server = Server("echo", [servicer], **options)

    async def __aenter__(self) -> EchoStub:
        self._serving = self._server.serving()
        address = await self._serving.__aenter__()
        # As under a mesh channel; with them C-core strips grpc-previous-rpc-attempts.
        options = [("grpc.enable_retries", 0)]
        self._channel = grpc.aio.insecure_channel(address, options=options)
        return EchoStub(self._channel)

    async def __aexit__(self, *why: Any) -> None:
        await self._channel.close()
        await self._serving.__aexit__(*why)


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def drained(call: Any) -> list[Any]:
    return [each async for each in call]
