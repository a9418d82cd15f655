"""
Ways from an outbox to an inbox: the feed, or a relay and a bus; here or in a process of its own.

    python -m tests.events.ways tell <way> <database> <source>
    python -m tests.events.ways take <way> <database> <source> <topic> <consumer>

A way is a bus's URL, or feed://host:port.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
from proxyless.events.v1 import add_EventFeedServicer_to_server

from mesh.events import Event, Outbox
from mesh.events.connected import connected
from mesh.events.feed import Feed, follow
from mesh.events.inbox import Handler
from mesh.events.relay import Relay
from mesh.events.subscribe import subscribe
from mesh.events.url import connect
from mesh.store import Database, Transaction
from mesh.store import connect as connect_database

ROOT = Path(__file__).parents[2]
FEED = "feed://"
# A follower that lost its server looks for it soon.
SOON = [
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
    ("grpc.use_local_subchannel_pool", 1),
]


async def tell(way: str, outbox: Outbox, source: str) -> NoReturn:
    """Tell what is in the outbox, for ever."""
    if not way.startswith(FEED):
        await connected(lambda: connect(way), lambda bus: Relay(outbox, bus, source=source).run())
    server = grpc.aio.server()
    add_EventFeedServicer_to_server(Feed(outbox), server)
    server.add_insecure_port(way.removeprefix(FEED))
    await server.start()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop(0)
    raise AssertionError("told until cancelled")


async def take(
    way: str,
    database: Database,
    source: str,
    topic: str,
    consumer: str,
    handler: Handler,
    attempts: int = 12,
) -> NoReturn:
    """Take in what the source tells, for ever."""
    about: dict[str, Any] = {"consumer": consumer, "source": source, "handler": handler}
    about |= {"topics": [topic], "attempts": attempts}
    if not way.startswith(FEED):
        await connected(lambda: connect(way), lambda bus: subscribe(bus, database, **about))
    async with grpc.aio.insecure_channel(way.removeprefix(FEED), options=SOON) as channel:
        await follow(channel, database, **about)
    raise AssertionError("taken in until cancelled")


def writing(member: str) -> Callable[[Transaction, Event], Awaitable[None]]:
    """A handler whose effect is a row; a second one of the same event would fail."""

    async def write(tx: Transaction, event: Event) -> None:
        await tx.execute(
            "insert into effect (event_id, aggregate_id, sequence, member) values ($1, $2, $3, $4)",
            event.event_id,
            event.aggregate_id,
            event.sequence,
            member,
        )

    return write


@asynccontextmanager
async def background(work: Awaitable[Any]) -> AsyncIterator[None]:
    task = asyncio.ensure_future(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def process(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """This module as a process, killed at the end."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "protos")))
    running = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.events.ways",
        *arguments,
        env={**os.environ, "PYTHONPATH": paths},
        cwd=ROOT,
    )
    try:
        yield running
    finally:
        if running.returncode is None:
            running.kill()
        await running.wait()


async def main(verb: str, way: str, url: str, source: str, *rest: str) -> None:
    async with connect_database(url) as database:
        if verb == "tell":
            await tell(way, Outbox(database), source)
        else:
            topic, consumer = rest
            await take(way, database, source, topic, consumer, writing(f"process {os.getpid()}"))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
