"""
/v1/kv: get, ?recurse, ?keys, ?raw, put with ?flags and ?cas, delete, all with blocking reads.

Locks (?acquire, ?release) need sessions, which this agent does not have: they are refused as
Consul refuses a session it does not know.
"""

from __future__ import annotations

import base64
from typing import Any

from aiohttp import web

from discovery.agent.blocking import Blocking, answer
from discovery.agent.definition import Refused
from discovery.agent.kv import Entry, KeyValues


class KvApi:
    def __init__(self, values: KeyValues, blocking: Blocking) -> None:
        self._values = values
        self._blocking = blocking

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/kv/{key:.*}", self.get),
            web.put("/v1/kv/{key:.*}", self.put),
            web.delete("/v1/kv/{key:.*}", self.delete),
        ]

    async def get(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if "recurse" in request.query or "keys" in request.query:
            return await self._below(request, key)
        if not key:
            raise Refused(400, "Missing key name")

        def read() -> tuple[int, Any]:
            return self._values.get(key)

        response, found = await self._blocking.read(request, [f"kv:{key}"], read)
        if found is None:
            _nothing(response)
        elif "raw" in request.query:
            response.body = found.value
            response.content_type = "text/plain"
            response.headers["X-Content-Type-Options"] = "nosniff"
            response.headers["Content-Security-Policy"] = "sandbox"
        else:
            response.body = answer(request, [_shown(found)]).body
        return response

    async def _below(self, request: web.Request, prefix: str) -> web.Response:
        separator = request.query.get("separator", "")

        def read() -> tuple[int, Any]:
            return self._values.below(prefix)

        response, found = await self._blocking.read(request, [f"kv/{prefix}"], read)
        if not found and (prefix or "keys" not in request.query):  # the root always has a list
            _nothing(response)
        elif "keys" in request.query:
            response.body = answer(request, _keys(found, prefix, separator)).body
        else:
            response.body = answer(request, [_shown(entry) for entry in found]).body
        return response

    async def put(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if not key:
            raise Refused(400, "Missing key name")
        for lock in ("acquire", "release"):
            if lock in request.query:
                session = request.query[lock]
                known = f'invalid session "{session}"'
                malformed = "failed session lookup: index error: UUID must be 36 characters"
                raise Refused(500, known if len(session) == 36 else malformed)
        flags = _number(request, "flags") or 0
        compared = _number(request, "cas")
        done = self._values.put(key, await request.read(), flags, compared=compared)
        return answer(request, done)

    async def delete(self, request: web.Request) -> web.Response:
        key = request.match_info["key"]
        if "recurse" in request.query:
            self._values.delete_below(key)
            return answer(request, True)
        if not key:
            raise Refused(400, "Missing key name")
        compared = _number(request, "cas")
        return answer(request, self._values.delete(key, compared=compared))


def _nothing(response: web.Response) -> None:
    """Not found, but with the headers that a watcher of a missing key goes on from."""
    response.set_status(404)
    response.content_type = "application/octet-stream"


def _shown(entry: Entry) -> dict[str, Any]:
    return {
        "LockIndex": 0,
        "Key": entry.key,
        "Flags": entry.flags,
        "Value": base64.b64encode(entry.value).decode() or None,
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


def _number(request: web.Request, name: str) -> int | None:
    text = request.query.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and int(text) < 2**64):
        raise Refused(500, f'strconv.ParseUint: parsing "{text}": invalid syntax')
    return int(text)
