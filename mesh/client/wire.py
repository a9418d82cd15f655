"""
One attempt on asyncio: from the flow's Attempt to a call on its endpoint's real channel.

A call is handed to grpc only once the connection stands; so when it never stood, the server has
certainly not processed it, and when it did stand, nobody can know.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Protocol

from mesh.call import Call, Metadata
from mesh.client.pool import READY, Link, Pool
from mesh.drive import expired
from mesh.errors import CallFailed, Code, Processed
from mesh.flow import Inner

PREVIOUS = "grpc-previous-rpc-attempts"


class Calls(Protocol):
    """What all calls of one channel share."""

    active: set[Any]
    flow: Inner
    loop: asyncio.AbstractEventLoop


class Method(Protocol):
    """A method of a stub: how a call on it is begun, whatever the channel."""

    channel: Calls
    serializer: Any

    async def begin(
        self, call: Call, request: Any, options: dict[str, Any]
    ) -> tuple[Any, Link | None]:
        """One attempt's call of grpc's own, and the link that it is on."""
        ...


async def link_of(pool: Pool, call: Call) -> Link:
    """The link to the endpoint that the column chose, connected; else nothing was processed."""
    link = None if call.endpoint is None else pool.links.get(call.endpoint.id)
    if link is None:
        # It left between the pick and the attempt.
        raise CallFailed(Code.UNAVAILABLE, "the endpoint has left", processed=Processed.NO)
    if link.channel.get_state() is not READY:
        await _connect(link, call)
    return link


async def _connect(link: Link, call: Call) -> None:
    try:
        async with asyncio.timeout(call.remaining(monotonic())):
            ready = await link.connected(call.wait_for_ready)
    except TimeoutError:
        raise expired(call) from None
    if not ready:
        message = f"{link.endpoint.id} at {link.endpoint.address} cannot be reached"
        raise CallFailed(Code.UNAVAILABLE, message, processed=Processed.NO)


def timeout(call: Call) -> float | None:
    """What remains for this attempt, as grpc takes it."""
    if call.deadline is None:
        return None
    remaining = call.deadline - monotonic()
    if remaining <= 0.0:
        raise expired(call)
    return remaining


def metadata(call: Call) -> Metadata | None:
    """The caller's metadata, and from the second attempt on how many went before (gRFC A6)."""
    if call.attempt > 1:
        return call.with_metadata(((PREVIOUS, str(call.attempt - 1)),))
    return call.metadata or None


def recalled(link: Link | None) -> CallFailed | None:
    """What a cancellation seen now was, if it was the link's end and nobody's wish."""
    task = asyncio.current_task()
    if link is not None and link.cut and task is not None and not task.cancelling():
        message = f"{link.endpoint.id} left, and its time to drain is over"
        return CallFailed(Code.UNAVAILABLE, message)
    return None
