"""
One attempt on asyncio: from the flow's Attempt to a call on its endpoint's real channel.

A call is handed to grpc only once the connection stands; so when it never stood, the server has
certainly not processed it, and when it did stand, nobody can know.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from discovery.model import Endpoint
from mesh.call import Call, Metadata
from mesh.client.pool import Link, Pool
from mesh.errors import CallFailed, Code, Processed
from mesh.flow import Inner

TRACEPARENT = "traceparent"
CRITICALITY = "x-mesh-criticality"
PREVIOUS = "grpc-previous-rpc-attempts"
RETRIED_FOR = "x-mesh-retried-for"


# An attempt's call of grpc's own, and the link that it is on: none where it is no link of ours.
Begun = tuple[Any, Link | None]


class Calls(Protocol):
    """What all calls of one channel share."""

    active: set[Any]
    flow: Inner

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...

    def soon(self, callback: Callable[[], None]) -> asyncio.Handle | None:
        """Have `callback` run in the next turn, unless somebody awaits the call at once anyway."""
        ...


class Method(Protocol):
    """A method of a stub: how a call on it is begun, whatever the channel."""

    @property
    def channel(self) -> Calls: ...

    @property
    def serializer(self) -> Any: ...

    def begin_now(self, call: Call, request: Any, options: dict[str, Any]) -> Begun | None:
        """One attempt's call of grpc's own and its link; None where it must be waited for."""
        ...

    async def begin(self, call: Call, request: Any, options: dict[str, Any]) -> Begun:
        """The same, waited for; no link is no link of ours."""
        ...


def link_of(pool: Pool, call: Call) -> Link:
    """The link to the endpoint that the column chose."""
    link = None if call.endpoint is None else pool.links.get(call.endpoint.id)
    if link is None:
        raise unsent(Code.UNAVAILABLE, call.endpoint)  # it left after the pick
    return link


async def connect(link: Link, call: Call) -> None:
    """Wait until the link stands; if it does not, nothing was processed."""
    try:
        async with asyncio.timeout(call.remaining(monotonic())):
            ready = await link.connected(call.wait_for_ready)
    except TimeoutError:
        raise unsent(Code.DEADLINE_EXCEEDED, link.endpoint) from None
    if not ready:
        raise unsent(Code.UNAVAILABLE, link.endpoint)


def unsent(code: Code, endpoint: Endpoint | None) -> CallFailed:
    """The attempt ended before it was handed to grpc."""
    where = "its endpoint" if endpoint is None else f"{endpoint.id} at {endpoint.address}"
    message = f"no connection to {where}" + (" in time" if code is Code.DEADLINE_EXCEEDED else "")
    return CallFailed(code, message, processed=Processed.NO)


def timeout(call: Call) -> float | None:
    """What remains for this attempt, as grpc takes it."""
    if call.deadline is None:
        return None
    remaining = call.deadline - monotonic()
    if remaining <= 0.0:
        raise CallFailed(Code.DEADLINE_EXCEEDED, "Deadline Exceeded", processed=Processed.NO)
    return remaining


def metadata(call: Call) -> Metadata | None:
    """The caller's metadata, and what this attempt adds to it."""
    given = call.metadata
    if call.attempt == 1 and not call.criticality:
        # Nearly every call's.
        if not call.traceparent:
            return given or None
        for name, _ in given:
            if name == TRACEPARENT:
                return given
        return (*given, (TRACEPARENT, call.traceparent))
    extra = [
        (TRACEPARENT, call.traceparent),
        (CRITICALITY, call.criticality),
        # "grpc-previous-rpc-attempts [...] is not present on the first attempt" - gRFC A6
        (PREVIOUS, str(call.attempt - 1) if call.attempt > 1 else ""),
        (RETRIED_FOR, call.retried_for),
    ]
    names = {name for name, _ in given}
    return call.with_metadata([pair for pair in extra if pair[1] and pair[0] not in names])


def recalled(link: Link | None) -> CallFailed | None:
    """What a cancellation seen now was, if it was the link's end and nobody's wish."""
    task = asyncio.current_task()
    if link is not None and link.cut and task is not None and not task.cancelling():
        message = f"{link.endpoint.id} left, and its time to drain is over"
        return CallFailed(Code.UNAVAILABLE, message)
    return None
