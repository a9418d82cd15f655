"""
Leaving without a failed call: the steps of a shutdown in the only order that loses nothing.

    say NOT_SERVING -> deregister, until nobody is told of us -> wait until every watcher knows
        -> refuse new calls by name until nobody sends any
        -> stop(grace): endless streams are told to go elsewhere -> cancel

New calls are still served during the wait, because clients that do not know yet still send them.
Who does not know after it is told: SERVER_DRAINING says that no handler saw the call, so a mesh
channel sends it elsewhere, whatever it does, and asks here no more.  Without that, a call that
meets the stop fails, and nobody knows whether it ran.  Every step is bounded; `hurry` (a second
signal) cuts all of them short.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Protocol

import grpc

from discovery.registry import Registration
from mesh.server.health import Health

logger = logging.getLogger("mesh.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How patiently a server leaves; float seconds."""

    # From when the registry tells nobody of us: a watcher that it woke too often for nothing pauses
    # for up to 1 s (discovery.pace.Bucket), the rest is the answer's way on a busy machine.
    wait: float = 2.0
    # Seconds without a new call after which nobody is thought to send any, and how long to hope for
    # that; a drain that waits for nothing refuses nobody either.
    quiet: float = 0.2
    refuse: float = 1.0
    # For calls in flight when the wait is over; what is left then is cancelled.
    grace: float = 5.0
    # For streams of answers: a finite one ends by itself, a watch would use up the whole grace.
    stream_grace: float = 0.5
    # A registry that does not answer must not hold up the stop; its check will find us gone.  It is
    # long because leaving is done only when the servers behind the agent have heard of it too.
    deregister: float = 8.0
    # For gRPC, to stop once everything is cancelled: no stop waits for ever.
    cut: float = 2.0


class Leaving(Protocol):
    """What stands before the handlers, on its way out."""

    async def leave(self, quiet: float) -> None: ...

    def end_streams(self) -> None: ...


async def drain(
    rule: Drain,
    health: Health,
    registration: Registration | None,
    server: grpc.aio.Server,
    serving: Leaving,
    hurry: asyncio.Event,
) -> None:
    """Take *server* out of service by *rule*."""
    health.drain()
    if registration is not None:
        await _within(rule.deregister, registration.leave(), hurry)
        await _within(rule.wait, asyncio.Event().wait(), hurry)
    await _within(rule.refuse, serving.leave(min(rule.quiet, rule.wait)), hurry)
    health.end_watches()
    stopping = asyncio.ensure_future(server.stop(0 if hurry.is_set() else rule.grace))
    ending = asyncio.get_running_loop().call_later(
        min(rule.stream_grace, rule.grace), serving.end_streams
    )
    # A second more, for stop() to cancel what outlived its grace.
    await _within(rule.grace + 1.0, asyncio.shield(stopping), hurry)
    ending.cancel()
    if not stopping.done():
        cutting = asyncio.ensure_future(server.stop(0))
        await asyncio.wait({stopping, cutting}, timeout=rule.cut)
    if not stopping.done():
        logger.warning("leaving: gRPC did not stop in time; what it still does is left behind")


async def _within(seconds: float, work: Awaitable[object], hurry: asyncio.Event) -> None:
    """Await *work* until it is done, *seconds* are over or *hurry* is set; log what it raises."""
    working = asyncio.ensure_future(work)
    hurried = asyncio.ensure_future(hurry.wait())
    try:
        await asyncio.wait({working, hurried}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    finally:
        hurried.cancel()
        if not working.done():
            working.cancel()
        await asyncio.gather(working, hurried, return_exceptions=True)
    error = None if working.cancelled() else working.exception()
    if error is not None:
        logger.warning("leaving: %s: %s", type(error).__name__, error)
