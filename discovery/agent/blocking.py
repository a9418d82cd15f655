"""
Blocking queries: a request with ?index waits until its topic has a higher one, or its wait is over.

    read() -> (index, value)   again after every touch of its topics, until index > asked

The wait is 5 min unless said, 10 min at most.  A stopping agent lets everybody go at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from discovery.agent.blocked import Blocked, Look
from discovery.agent.catalog import Catalog
from discovery.agent.go import Misread, Refused, seconds
from discovery.agent.wire import Request, Response

DEFAULT_WAIT_SECONDS = 300.0
MAX_WAIT_SECONDS = 600.0
JSON = "application/json"
# What Consul says of a query that failed before any server answered it.
UNANSWERED = {
    "X-Consul-Index": "1",
    "X-Consul-Knownleader": "false",
    "X-Consul-Lastcontact": "0",
}

Read = Callable[[], tuple[int, Any]]
# Turns what was read into the response: its body, perhaps its status.
Show = Callable[[Response, Any], None]
Answer = Response | Blocked


def answer(request: Request, value: Any, *, status: int = 200) -> Response:
    """JSON as Consul prints it, indented on ?pretty."""
    body = msgspec.json.encode(value)
    if "pretty" in request.query:
        body = msgspec.json.format(body, indent=4) + b"\n"
    return Response(status, body, JSON)


class Blocking:
    """Answers catalog reads of one agent."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._stopping = False

    async def stop(self) -> None:
        """Let every blocked query go; none blocks any more, and all are answered on return."""
        self._stopping = True
        self._catalog.wake(*self._catalog.waiters)
        await asyncio.sleep(0)  # the turn in which they look again

    def query(self, request: Request, topics: Sequence[str], read: Read) -> Answer:
        """What `read` finds, as JSON; of the catalog, which says how consistent it was."""
        consistency = "stale" if "stale" in request.query else "leader"

        def show(response: Response, value: Any) -> None:
            response.headers["X-Consul-Effective-Consistency"] = consistency
            response.body = answer(request, value).body

        return self.read(request, topics, read, show)

    def plain(self, request: Request, topics: Sequence[str], read: Read) -> Answer:
        """As `query`, of tables that say nothing of consistency."""

        def show(response: Response, value: Any) -> None:
            response.body = answer(request, value).body

        return self.read(request, topics, read, show)

    def read(self, request: Request, topics: Sequence[str], read: Read, show: Show) -> Answer:
        """The headers of a blocking query and what `show` makes of the value."""
        asked, wait = self.asked(request)
        index, value = read()
        if not asked or index > asked or self._stopping:
            return self._response(index, value, show)

        def look(last: bool) -> Response | None:
            index, value = read()
            if index > asked or last or self._stopping:
                return self._response(index, value, show)
            return None

        return self.until(topics, look, wait)

    def until(self, topics: Sequence[str], look: Look, wait: float) -> Blocked:
        """A request that `look` answers, after a touch of the topics or when the wait is over."""
        return Blocked(self._catalog, topics, look, wait)

    def _response(self, index: int, value: Any, show: Show) -> Response:
        if self._stopping:
            raise Refused(500, "agent is shutting down")
        response = Response(content_type=JSON)
        response.headers["X-Consul-Index"] = str(max(index, 1))
        response.headers["X-Consul-Knownleader"] = "true"
        response.headers["X-Consul-Lastcontact"] = "0"
        show(response, value)
        return response

    def asked(self, request: Request) -> tuple[int, float]:
        """The index and the wait that a request names; refuses what cannot be waited for."""
        query = request.query
        if "stale" in query and "consistent" in query:
            raise Refused(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")
        wait = wait_of(request)
        index = query.get("index")
        if index and not (index.isascii() and index.isdigit()):
            raise Refused(400, "Invalid index")
        here(request, None if request.path.startswith("/v1/kv/") else UNANSWERED)
        return int(index or 0), wait


def wait_of(request: Request) -> float:
    """Seconds to block for."""
    text = request.query.get("wait")
    if not text:
        return DEFAULT_WAIT_SECONDS
    try:
        wait = seconds(text)
    except Misread:
        raise Refused(400, "Invalid wait time") from None
    return min(wait, MAX_WAIT_SECONDS) or DEFAULT_WAIT_SECONDS


def here(request: Request, headers: dict[str, str] | None = None) -> None:
    """Refuses a request for another datacenter."""
    elsewhere(request.query.get("dc"), headers)


def elsewhere(datacenter: str, headers: dict[str, str] | None = None) -> None:
    """There is one datacenter; another has no path to it."""
    if datacenter not in ("", "dc1"):
        raise Refused(500, "No path to datacenter", headers)
