"""
/v1/event: fire and list.  A list blocks while the newest event is the one that was seen.
"""

from __future__ import annotations

from discovery.agent.blocking import JSON, Answer, Blocking, answer, here
from discovery.agent.door import Routes
from discovery.agent.events import TOPIC, Event, Events, shown
from discovery.agent.go import Refused
from discovery.agent.wire import Request, Response


class EventApi:
    def __init__(self, events: Events, blocking: Blocking) -> None:
        self._events = events
        self._blocking = blocking

    def routes(self) -> Routes:
        return {"/v1/event/fire/": {"PUT": self.fire}, "/v1/event/list": {"GET": self.list}}

    def fire(self, request: Request) -> Response:
        if not request.rest:
            raise Refused(400, "Missing name")
        here(request)
        query = request.query
        node, service, tag = query.get("node"), query.get("service"), query.get("tag")
        event = self._events.fire(request.rest, request.body, node=node, service=service, tag=tag)
        return answer(request, shown(event))

    def list(self, request: Request) -> Answer:
        asked, wait = self._blocking.asked(request)
        name = request.query.get("name")

        def look(last: bool) -> Response | None:
            index, found = self._events.listed(name)
            if asked and asked == index and not last:
                return None
            return _listed(request, index, found)

        return look(False) or self._blocking.until([TOPIC], look, wait)


def _listed(request: Request, index: int, found: list[Event]) -> Response:
    body = answer(request, [shown(one) for one in found]).body
    return Response(200, body, JSON, {"X-Consul-Index": str(max(index, 1))})
