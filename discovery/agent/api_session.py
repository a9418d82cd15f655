"""
/v1/session: create, destroy, renew, info, node and list.
"""

from __future__ import annotations

from typing import Any

from discovery.agent import sessions
from discovery.agent.blocking import UNANSWERED, Answer, Blocking, answer, here
from discovery.agent.door import Routes
from discovery.agent.go import Refused
from discovery.agent.sessions import NOT_AN_ID, TOPIC, Sessions, is_id
from discovery.agent.wire import Request, Response


class SessionApi:
    """`node` is the agent's own, which a session belongs to unless it says another."""

    def __init__(self, all_: Sessions, blocking: Blocking, node: str) -> None:
        self._sessions = all_
        self._blocking = blocking
        self._node = node

    def routes(self) -> Routes:
        return {
            "/v1/session/create": {"PUT": self.create},
            "/v1/session/destroy/": {"PUT": self.destroy},
            "/v1/session/renew/": {"PUT": self.renew},
            "/v1/session/info/": {"GET": self.info},
            "/v1/session/node/": {"GET": self.of_node},
            "/v1/session/list": {"GET": self.list},
        }

    def create(self, request: Request) -> Response:
        asked = sessions.asked_for(request.body, self._node)
        here(request)
        return answer(request, {"ID": self._sessions.create(asked).id})

    def destroy(self, request: Request) -> Response:
        self._sessions.destroy(_named(request))
        return answer(request, True)

    def renew(self, request: Request) -> Response:
        found = self._sessions.find(_named(request))
        if found is None:
            raise Refused(404, f"Session id '{request.rest}' not found")
        self._sessions.renew(found)
        return answer(request, [sessions.shown(found)])

    def info(self, request: Request) -> Answer:
        session_id = _named(request)
        if not is_id(session_id):
            raise Refused(500, NOT_AN_ID, UNANSWERED)

        def read() -> tuple[int, Any]:
            found = self._sessions.find(session_id)
            shown = [] if found is None else [sessions.shown(found)]
            return self._sessions.index, shown

        return self._blocking.plain(request, [TOPIC], read)

    def of_node(self, request: Request) -> Answer:
        if not request.rest:
            raise Refused(400, "Missing node name")
        return self._list(request, request.rest)

    def list(self, request: Request) -> Answer:
        return self._list(request, "")

    def _list(self, request: Request, node: str) -> Answer:
        def read() -> tuple[int, Any]:
            found = self._sessions.all(node)
            return self._sessions.index, [sessions.shown(one) for one in found]

        return self._blocking.plain(request, [TOPIC], read)


def _named(request: Request) -> str:
    if not request.rest:
        raise Refused(400, "Missing session")
    return request.rest
