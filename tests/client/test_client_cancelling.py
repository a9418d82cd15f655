"""A cancelled call is told to the core; grpc's own task ends by itself, and frees what it held."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest

from mesh.client import cancelling
from mesh.client.status import LOCALLY_CANCELLED


async def test_grpc_still_has_the_name_that_frees_what_a_call_held():
    """When this fails, see mesh/client/cancelling.py."""
    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        call = channel.unary_unary("/a/B")(b"", wait_for_ready=True)
        assert callable(getattr(call, cancelling.QUIETLY))
        await asyncio.sleep(0)
        cancelling.cancel(call)
        assert await asyncio.wait_for(call.code(), 5) is grpc.StatusCode.CANCELLED
        assert await call.details() == LOCALLY_CANCELLED
        with pytest.raises(asyncio.CancelledError):
            await call
        # Not cancelled itself: it has ended, and given back what its batch held.
        assert call._invocation_task.done()
        assert not call._invocation_task.cancelled()


async def test_without_it_the_public_one_is_called():
    class Later:
        cancelled = False

        def cancel(self) -> None:
            self.cancelled = True

    call: Any = Later()
    cancelling.cancel(call)
    assert call.cancelled
