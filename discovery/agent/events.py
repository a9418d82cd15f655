"""
User events: fired at this agent, kept when they are meant for it, listed with a hash for an index.

There is nobody to gossip with, so an event that its filters let through is heard here and nowhere
else.  The newest 256 are kept, as by Consul.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections import deque
from dataclasses import dataclass
from typing import Any

from discovery.agent import go
from discovery.agent.catalog import Catalog
from discovery.agent.go import Refused
from discovery.agent.records import ServiceRecord

TOPIC = "events"
MAX_EVENTS = 256
MAX_BYTES = 512
# What the JSON around name and payload takes of an event's bytes.
AROUND = 100


@dataclass(frozen=True, slots=True)
class Event:
    id: str
    name: str
    payload: bytes = b""
    node: str = ""
    service: str = ""
    tag: str = ""
    time: int = 0


class Events:
    """The events of one agent, whose name is `node`."""

    def __init__(self, catalog: Catalog, node: str) -> None:
        self._catalog = catalog
        self._node = node
        self._time = 1
        self._events: deque[Event] = deque(maxlen=MAX_EVENTS)

    def fire(self, name: str, payload: bytes, *, node: str, service: str, tag: str) -> Event:
        """The event as its sender sees it, without a time yet."""
        if tag and not service:
            raise Refused(500, "Cannot provide tag filter without service filter")
        for what, pattern in (("node", node), ("service", service), ("tag", tag)):
            _pattern(what, pattern)
        if len(name) + len(payload) * 4 // 3 + AROUND > MAX_BYTES + AROUND:
            raise Refused(
                500,
                '1 error occurred:\n\t* error broadcasting event to segment "": user event exceeds'
                f" configured limit of {MAX_BYTES} bytes before encoding\n\n",
            )
        event = Event(str(uuid.uuid4()), name, payload, node, service, tag)
        self._time += 1
        if self._meant(event):
            heard = Event(event.id, name, payload, node, service, tag, self._time)
            self._events.append(heard)
            self._catalog.woken(TOPIC)
        return event

    def listed(self, name: str) -> tuple[int, list[Event]]:
        """The events of a name, of any if it is empty, and the index of the newest."""
        found = [one for one in self._events if name in ("", one.name)]
        return (index_of(found[-1]) if found else 0), found

    def _meant(self, event: Event) -> bool:
        if event.node and not re.search(event.node, self._node):
            return False
        if not event.service:
            return True
        here = [
            record
            for key, record in self._catalog.services.items()
            if key[0] == self._node and key[1] != "consul"
        ]
        return any(_suits(event, record) for record in here)


def _suits(event: Event, record: ServiceRecord) -> bool:
    # Of its id, as there, though it is called the service.
    if not re.search(event.service, record.id):
        return False
    return not event.tag or any(re.search(event.tag, tag) for tag in record.tags or ())


def _pattern(what: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise Refused(
            500, f"Invalid {what} filter: {go.said_of_pattern(pattern, error)}"
        ) from error


def index_of(event: Event) -> int:
    """Half of the id against the other half: changes with the newest event, and means no order."""
    digits = event.id.replace("-", "")
    return int(digits[:16], 16) ^ int(digits[16:], 16)


def shown(event: Event) -> dict[str, Any]:
    return {
        "ID": event.id,
        "Name": event.name,
        "Payload": base64.b64encode(event.payload).decode() or None,
        "NodeFilter": event.node,
        "ServiceFilter": event.service,
        "TagFilter": event.tag,
        "Version": 1,
        "LTime": event.time,
    }
