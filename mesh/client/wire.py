"""
One attempt on asyncio: from the flow's Attempt to a call on its endpoint's real channel.

A call is handed to grpc only once the connection stands; so when it never stood, the server has
certainly not processed it, and when it did stand, nobody can know.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any, Protocol

import grpc.aio

from mesh.call import Call, Metadata
from mesh.client.pool import Link, Pool
from mesh.drive import expired
from mesh.errors import CallFailed, Code, Processed

PREVIOUS = "grpc-previous-rpc-attempts"


class StubMethod(Protocol):
    """A method of a stub, which knows how to be called on a real channel."""

    def on(self, channel: grpc.aio.Channel) -> Any: ...


def link_of(pool: Pool, call: Call) -> Link:
    """The link to the endpoint that the column chose."""
    link = None if call.endpoint is None else pool.links.get(call.endpoint.id)
    if link is None:
        # It left between the pick and the attempt.
        raise CallFailed(Code.UNAVAILABLE, "the endpoint has left", processed=Processed.NO)
    return link


async def connect(link: Link, call: Call) -> None:
    """Wait until the link stands; if it cannot, the call was certainly not processed."""
    try:
        async with asyncio.timeout(call.remaining(monotonic())):
            ready = await link.connected(call.wait_for_ready)
    except TimeoutError:
        raise expired(call) from None
    if not ready:
        message = f"{link.endpoint.id} at {link.endpoint.address} cannot be reached"
        raise CallFailed(Code.UNAVAILABLE, message, processed=Processed.NO)


def start(link: Link, method: StubMethod, call: Call, request: Any, options: Any) -> Any:
    """Begin grpc's own call on the link."""
    multi = link.callables.get(method)
    if multi is None:
        multi = link.callables[method] = method.on(link.channel)
    return multi(request, timeout=timeout(call), metadata=metadata(call), **options)


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


def recalled(link: Link) -> CallFailed | None:
    """What a cancellation seen now was, if it was the link's end and nobody's wish."""
    task = asyncio.current_task()
    if link.cut and task is not None and not task.cancelling():
        message = f"{link.endpoint.id} left, and its time to drain is over"
        return CallFailed(Code.UNAVAILABLE, message)
    return None
