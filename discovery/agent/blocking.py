"""
Blocking queries: a request with ?index waits until its topic has a higher one, or its wait is over.

    read() -> (index, value)   again after every touch of its topics, until index > asked

The wait is 5 min unless said, 10 min at most, and longer by up to a sixteenth at random so that
watchers do not return in step.  A stopping agent lets everybody go at once.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web

from discovery.agent.catalog import Catalog
from discovery.agent.definition import Refused, seconds

DEFAULT_WAIT_SECONDS = 300.0
MAX_WAIT_SECONDS = 600.0

Read = Callable[[], tuple[int, Any]]


def answer(request: web.Request, value: Any, *, status: int = 200) -> web.Response:
    """JSON as Consul prints it, indented on ?pretty."""
    body = msgspec.json.encode(value)
    if "pretty" in request.query:
        body = msgspec.json.format(body, indent=4) + b"\n"
    return web.Response(status=status, body=body, content_type="application/json")


class Blocking:
    """Answers catalog reads of one agent."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._stopping = asyncio.Event()
        self._blocked = 0

    def stop(self) -> None:
        """Let every blocked query go; none blocks any more."""
        self._stopping.set()
        for waiters in self._catalog.waiters.values():
            for wake in tuple(waiters):
                wake()

    async def query(self, request: web.Request, topics: Sequence[str], read: Read) -> web.Response:
        """What `read` finds, as JSON; of the catalog, which says how consistent it was."""
        response, value = await self.read(request, topics, read)
        response.body = answer(request, value).body
        response.headers["X-Consul-Effective-Consistency"] = (
            "stale" if "stale" in request.query else "leader"
        )
        return response

    async def read(
        self, request: web.Request, topics: Sequence[str], read: Read
    ) -> tuple[web.Response, Any]:
        """A response with the headers of a blocking query, yet without body, and the value."""
        asked, wait = _asked(request)
        index, value = read()
        if asked and index <= asked:
            index, value = await self._wait(topics, read, asked, wait)
        if self._stopping.is_set():
            raise web.HTTPInternalServerError(text="agent is shutting down")
        response = web.Response(content_type="application/json")
        response.headers["X-Consul-Index"] = str(max(index, 1))
        response.headers["X-Consul-KnownLeader"] = "true"
        response.headers["X-Consul-LastContact"] = "0"
        return response, value

    async def _wait(
        self, topics: Sequence[str], read: Read, asked: int, wait: float
    ) -> tuple[int, Any]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait + random.uniform(0, wait / 16)
        with self._waiting(topics) as touched:
            while not self._stopping.is_set():
                try:
                    async with asyncio.timeout_at(deadline):
                        await touched.wait()
                except TimeoutError:
                    break
                touched.clear()
                index, value = read()
                if index > asked:
                    return index, value
        return read()

    @contextmanager
    def _waiting(self, topics: Sequence[str]) -> Iterator[asyncio.Event]:
        touched = asyncio.Event()
        waiters = self._catalog.waiters
        for topic in topics:
            waiters[topic].add(touched.set)
        try:
            yield touched
        finally:
            for topic in topics:
                waiters[topic].discard(touched.set)
                if not waiters[topic]:
                    del waiters[topic]


def _asked(request: web.Request) -> tuple[int, float]:
    query = request.query
    if "stale" in query and "consistent" in query:
        raise Refused(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
    wait = DEFAULT_WAIT_SECONDS
    if query.get("wait"):
        try:
            wait = seconds(query["wait"])
        except Refused:
            raise Refused(400, "Invalid wait time") from None
        wait = min(wait, MAX_WAIT_SECONDS) or DEFAULT_WAIT_SECONDS
    index = query.get("index", "")
    if index and not (index.isascii() and index.isdigit()):
        raise Refused(400, "Invalid index")
    datacenter = query.get("dc", "")
    if datacenter not in ("", "dc1"):
        raise Refused(500, "No path to datacenter")
    return int(index or 0), wait
