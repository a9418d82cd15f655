"""
Sessions: what a lock is held by, and what takes it away.

A session ends when it is destroyed, when nobody renewed it for twice its TTL, or when a check that
it leans on turns critical or goes away.  Its keys are then released or deleted, and for its lock
delay nobody may lock them: the old holder may not have noticed yet.  Times are seconds of a clock
that is given; nothing here waits.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from discovery.agent import go
from discovery.agent.catalog import Catalog
from discovery.agent.go import Refused

TOPIC = "sessions"
MIN_TTL_SECONDS, MAX_TTL_SECONDS = 10.0, 86_400.0
MAX_LOCK_DELAY_SECONDS = 60.0
MAX_SESSIONS = 10_000
NANOSECONDS = 1_000_000_000
NOT_AN_ID = "failed session lookup: index error: UUID must be 36 characters"

_ASKED = {
    "id": ("", "string"),
    "name": ("name", "string"),
    "node": ("node", "string"),
    "behavior": ("behavior", "string"),
    "ttl": ("ttl", "string"),
    "lockdelay": ("lock_delay", "any"),
    "checks": ("checks", "[]types.CheckID"),
    "nodechecks": ("node_checks", "[]string"),
    "servicechecks": ("service_checks", "[]structs.ServiceCheck"),
}


@dataclass(slots=True)
class Session:
    """`lock_delay` is nanoseconds, as it is shown; `ttl` is the text that was given."""

    id: str
    node: str
    name: str = ""
    behavior: str = "release"
    ttl: str = ""
    lock_delay: int = 15 * NANOSECONDS
    node_checks: list[str] | None = field(default_factory=lambda: ["serfHealth"])
    service_checks: list[dict[str, str]] | None = None
    created: int = 0

    @property
    def ttl_seconds(self) -> float:
        return go.seconds(self.ttl)

    @property
    def delay_seconds(self) -> float:
        """How long its keys cannot be locked after its end."""
        return min(self.lock_delay / NANOSECONDS, MAX_LOCK_DELAY_SECONDS)

    @property
    def checks(self) -> list[str]:
        return [*(self.node_checks or ()), *(one["ID"] for one in self.service_checks or ())]


def asked_for(body: bytes, node: str) -> Session:
    """The session that PUT /v1/session/create describes; unknown fields are let pass, as there."""
    session = Session("", node)
    if not body:
        return session
    found = go.decode(body, "struct { LockDelay interface {}; *structs.Alias }")
    asked = go.fields(found, _ASKED)
    named = {key.lower() for key in found}
    # Given under its new name it counts, null and all; the old name only fills its absence.
    if "nodechecks" in named:
        session.node_checks = asked.pop("node_checks", None)
        asked.pop("checks", None)
    elif "checks" in asked:
        session.node_checks = asked.pop("checks")
    session.service_checks = _service_checks(asked.pop("service_checks", None))
    delay = asked.pop("lock_delay", None)
    if isinstance(delay, str):
        try:
            session.lock_delay = round(go.seconds(delay) * NANOSECONDS)
        except go.Misread as error:
            raise Refused(400, f"Request decode failed: {error}") from None
    elif isinstance(delay, bool):
        session.lock_delay = 0
    elif isinstance(delay, int | float):
        # "A number below 1000 is seconds", written for clients that sent no unit.
        session.lock_delay = round(delay * NANOSECONDS if delay < 1000 else delay)
    for name, value in asked.items():
        setattr(session, name, value)
    return session


def _service_checks(found: list[Any] | None) -> list[dict[str, str]] | None:
    if found is None:
        return None
    kinds = {"id": ("ID", "string"), "namespace": ("Namespace", "string")}
    return [
        {"ID": "", "Namespace": ""} | go.fields(one, kinds, owner="ServiceCheck.ServiceChecks")
        for one in found
    ]


class Sessions:
    """All sessions; `now()` is a clock, `ended` takes the keys of one that ends."""

    def __init__(self, catalog: Catalog, now: Callable[[], float]) -> None:
        self._catalog = catalog
        self._now = now
        self._sessions: dict[str, Session] = {}
        self._expires: dict[str, float] = {}
        self._leaning: dict[tuple[str, str], set[str]] = {}
        self.ended: Callable[[Session], None] = lambda _: None
        catalog.fell.append(self._fell)

    def find(self, session_id: str) -> Session | None:
        """The session; refuses what cannot be an id."""
        if not is_id(session_id):
            raise Refused(500, NOT_AN_ID)
        return self._sessions.get(session_id)

    def all(self, node: str = "") -> list[Session]:
        found = self._sessions
        return [found[id_] for id_ in sorted(found) if not node or found[id_].node == node]

    @property
    def index(self) -> int:
        return self._catalog.index_of(TOPIC)

    def create(self, session: Session) -> Session:
        if not session.node:
            raise Refused(500, "Must provide Node")
        session.behavior = session.behavior or "release"
        if session.behavior not in ("release", "delete"):
            raise Refused(500, f"Invalid Behavior setting '{session.behavior}'")
        ttl = self._ttl(session)
        if session.node not in self._catalog.nodes:
            raise Refused(500, "Missing node registration")
        for check_id in session.checks:
            check = self._catalog.checks.get((session.node, check_id))
            if check is None:
                raise Refused(500, f"Missing check '{check_id}' registration")
            if check.status == "critical":
                raise Refused(500, f"Check '{check_id}' is in critical state")
        if len(self._sessions) >= MAX_SESSIONS:
            raise Refused(500, f"this development agent keeps no more than {MAX_SESSIONS} sessions")
        session.id = str(uuid.uuid4())
        session.created = self._catalog.advance()
        self._sessions[session.id] = session
        for check_id in session.checks:
            self._leaning.setdefault((session.node, check_id), set()).add(session.id)
        if ttl:
            self._expires[session.id] = self._now() + 2 * ttl
        self._catalog.touch(TOPIC)
        return session

    def _ttl(self, session: Session) -> float:
        try:
            ttl = session.ttl_seconds
        except go.Misread as error:
            raise Refused(500, f"Session TTL '{session.ttl}' invalid: {error}") from None
        if ttl and not MIN_TTL_SECONDS <= ttl <= MAX_TTL_SECONDS:
            shown = round(ttl * NANOSECONDS)
            raise Refused(500, f"Invalid Session TTL '{shown}', must be between [10s=24h0m0s]")
        return ttl

    def renew(self, session: Session) -> None:
        if session.id in self._expires:
            self._expires[session.id] = self._now() + 2 * session.ttl_seconds

    def destroy(self, session_id: str) -> None:
        session = self.find(session_id)
        if session is not None:
            self._catalog.advance()
            self._end(session)

    def expire(self) -> list[Session]:
        """End the sessions that nobody renewed, and say which."""
        now = self._now()
        over = [self._sessions[id_] for id_, at in self._expires.items() if at <= now]
        for session in over:
            self.destroy(session.id)
        return over

    def _fell(self, node: str, check_id: str) -> None:
        for session_id in sorted(self._leaning.get((node, check_id), ())):
            session = self._sessions.get(session_id)
            if session is not None:
                self._end(session)

    def _end(self, session: Session) -> None:
        """At the catalog's index of now: the write that ended it is the write that is seen."""
        del self._sessions[session.id]
        self._expires.pop(session.id, None)
        for check_id in session.checks:
            leaning = self._leaning.get((session.node, check_id), set())
            leaning.discard(session.id)
            if not leaning:
                self._leaning.pop((session.node, check_id), None)
        self.ended(session)
        self._catalog.touch(TOPIC)


def is_id(text: str) -> bool:
    return len(text) == 36


def shown(session: Session) -> dict[str, Any]:
    return {
        "ID": session.id,
        "Name": session.name,
        "Node": session.node,
        "LockDelay": session.lock_delay,
        "Behavior": session.behavior,
        "TTL": session.ttl,
        "NodeChecks": session.node_checks,
        "ServiceChecks": session.service_checks,
        "CreateIndex": session.created,
        "ModifyIndex": session.created,
    }
