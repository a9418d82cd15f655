"""
An address, connected to: "host:port", "[::1]:port" or "unix:path".

    name --> one address --0.25 s--> the next --0.25 s--> ...    whichever connects first

A name may have addresses that nobody answers at; tried in turn, the first of them would use up the
time of the whole attempt, again and again.
"""

from __future__ import annotations

import asyncio
import socket
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TypeVar


class Dialed(asyncio.Protocol, ABC):
    """A protocol that can be let go of as soon as it is connected."""

    @abstractmethod
    def abandon(self, why: str) -> None:
        """Hang up now."""


P = TypeVar("P", bound=Dialed)
Place = tuple[str, int]

# "the recommended value is 250 milliseconds" - RFC 8305, 5, which gRFC A61 takes over
HEAD_START_SECONDS = 0.25


async def dial(address: str, made: Callable[[], P]) -> P:
    """Connect a protocol of `made`; OSError when nobody is there, ValueError for no address."""
    loop = asyncio.get_running_loop()
    if address.startswith("unix:"):
        path = address.removeprefix("unix:")
        # "unix:path" and "unix:///absolute_path" - gRPC naming
        path = path.removeprefix("//") if path.startswith("///") else path
        _, protocol = await loop.create_unix_connection(made, path)
        return protocol
    host, _, port = address.rpartition(":")
    found = await loop.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    return await dial_first([(str(each[4][0]), int(each[4][1])) for each in found], made)


async def dial_first(places: Sequence[Place], made: Callable[[], P]) -> P:
    """Connect to one of several places; each has a head start before the next."""
    loop = asyncio.get_running_loop()

    async def connect(place: Place) -> P:
        _, protocol = await loop.create_connection(made, *place)
        return protocol

    waiting, trying = list(places), set[asyncio.Task[P]]()
    failure: BaseException = OSError("the name has no address")
    try:
        while waiting or trying:
            if waiting:
                trying.add(asyncio.ensure_future(connect(waiting.pop(0))))
            done, trying = await asyncio.wait(
                trying,
                timeout=HEAD_START_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                failed = task.exception()
                if failed is None:
                    trying |= done - {task}
                    return task.result()
                failure = failed
        raise failure
    finally:
        for task in trying:
            task.cancel()
            task.add_done_callback(_let_go)


def _let_go(task: asyncio.Task[P]) -> None:
    """One that has connected too, in the same moment, hangs up."""
    if not task.cancelled() and task.exception() is None:
        task.result().abandon("another address was there before it")
