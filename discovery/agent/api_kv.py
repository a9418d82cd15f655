"""
/v1/kv: get, ?recurse, ?keys, ?raw; put with ?flags, ?cas, ?acquire and ?release; delete.

Reads block as all others do.
"""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import urlencode

from discovery.agent.blocking import Answer, Blocking, answer, here
from discovery.agent.door import Routes
from discovery.agent.go import Refused
from discovery.agent.kv import Entry, KeyValues
from discovery.agent.wire import Request, Response


class KvApi:
    def __init__(self, values: KeyValues, blocking: Blocking) -> None:
        self._values = values
        self._blocking = blocking

    def routes(self) -> Routes:
        return {"/v1/kv/": {"GET": self.get, "PUT": self.put, "DELETE": self.delete}}

    def get(self, request: Request) -> Answer:
        key = request.rest
        if "recurse" in request.query or "keys" in request.query:
            return self._below(request, key)
        if not key:
            raise Refused(400, "Missing key name")

        def read() -> tuple[int, Any]:
            return self._values.get(key)

        def show(response: Response, found: Any) -> None:
            if found is None:
                _nothing(response)
            elif "raw" in request.query:
                response.body = found.value
                response.content_type = "text/plain"
                response.headers["X-Content-Type-Options"] = "nosniff"
                response.headers["Content-Security-Policy"] = "sandbox"
            else:
                response.body = answer(request, [shown(found)]).body

        return self._blocking.read(request, [f"kv:{key}"], read, show)

    def _below(self, request: Request, prefix: str) -> Answer:
        separator = request.query.get("separator")
        keys = "keys" in request.query

        def read() -> tuple[int, Any]:
            return self._values.below(prefix)

        def show(response: Response, found: Any) -> None:
            if not found and (prefix or not keys):  # the root always has a list
                _nothing(response)
            else:
                value = _keys(found, prefix, separator) if keys else [shown(one) for one in found]
                response.body = answer(request, value).body

        return self._blocking.read(request, [f"kv/{prefix}"], read, show)

    def put(self, request: Request) -> Response:
        key, query, values = request.rest, request.query, self._values
        if not key:
            raise Refused(400, "Missing key name")
        _at_most_one(request, "cas", "acquire", "release")
        flags = _number(request, "flags") or 0
        compared = _number(request, "cas")
        here(request)
        if "acquire" in query:
            session = query.get("acquire")
            done = not values.delayed(key) and values.lock(key, request.body, flags, session)
        elif "release" in query:
            done = values.unlock(key, request.body, flags, query.get("release"))
        else:
            done = values.put(key, request.body, flags, compared=compared)
        return answer(request, done)

    def delete(self, request: Request) -> Response:
        key = request.rest
        _at_most_one(request, "recurse", "cas")
        if "recurse" in request.query:
            here(request)
            self._values.delete_below(key)
            return answer(request, True)
        if not key:
            raise Refused(400, "Missing key name")
        compared = _number(request, "cas")
        here(request)
        return answer(request, self._values.delete(key, compared=compared))


def _nothing(response: Response) -> None:
    """Not found, but with the headers that a watcher of a missing key goes on from."""
    response.status = 404
    response.content_type = ""


def shown(entry: Entry, *, value: bool = True) -> dict[str, Any]:
    held = {"Session": entry.session} if entry.session else {}
    return {
        "LockIndex": entry.lock_index,
        "Key": entry.key,
        "Flags": entry.flags,
        "Value": (base64.b64encode(entry.value).decode() or None) if value else None,
        **held,
        "CreateIndex": entry.created,
        "ModifyIndex": entry.modified,
    }


def _keys(entries: list[Entry], prefix: str, separator: str) -> list[str]:
    """The keys, cut after the first separator behind the prefix, each once."""
    found: dict[str, None] = {}
    for entry in entries:
        at = entry.key.find(separator, len(prefix)) if separator else -1
        found[entry.key if at < 0 else entry.key[: at + len(separator)]] = None
    return list(found)


def _at_most_one(request: Request, *names: str) -> None:
    if sum(name in request.query for name in names) > 1:
        raise Refused(400, f"Conflicting flags: {urlencode(request.query.items())}")


def _number(request: Request, name: str) -> int | None:
    if name not in request.query:
        return None
    text = request.query.get(name)
    if not (text.isascii() and text.isdigit()):
        raise Refused(500, f'strconv.ParseUint: parsing "{text}": invalid syntax')
    if len(text) > 20 or int(text) >= 2**64:
        raise Refused(500, f'strconv.ParseUint: parsing "{text}": value out of range')
    return int(text)
