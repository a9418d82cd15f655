"""
One agent that answers, with what is only its own made neutral, so that two can be compared.

What differs between any two agents is left out: node and session ids, hashes and the words of
failed connections.  An index counts by how it moved since the same was asked before.  "{s0}" in a
call is the first session that was created there, "{s-1}" the newest; "{i:path}" is the index that a
path was last answered with, "{m:key}" the one that a key was last seen with, 0 if never.
"""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp
import yarl

Call = tuple[str, str, object]

INDEXES = ("CreateIndex", "ModifyIndex")
NOBODY = "00000000-0000-0000-0000-000000000000"
HEADERS = (
    "X-Consul-KnownLeader",
    "X-Consul-LastContact",
    "X-Consul-Effective-Consistency",
    "Allow",
    "Location",
    "X-Content-Type-Options",
)


class Asked:
    """One agent that answers, its own names made neutral."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._origin = f"http://{address}"
        self._sessions: list[str] = []
        self._indexes: dict[str, int] = {}
        self._modified: dict[str, int] = {}

    async def answer(self, call: Call) -> dict[str, Any]:
        method, path, body = call
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        if data is not None:
            data = self._filled(data)
        url = yarl.URL(self._origin + self._filled(path), encoded=True)
        async with self._session.request(method, url, data=data, allow_redirects=False) as response:
            text = await response.text()
            if path.startswith("/v1/session/create") and response.status == 200:
                self._sessions.append(json.loads(text)["ID"])
            self._note(text)
            for number, session in enumerate(self._sessions):
                text = text.replace(session, f"session-{number:06}")
            return {
                "call": call,
                "status": response.status,
                "index": self._moved(path, response.headers.get("X-Consul-Index")),
                "type": response.content_type,
                "headers": {name: response.headers.get(name) for name in HEADERS},
                "body": neutral(text),
            }

    def _moved(self, path: str, index: str | None) -> str:
        """How an index relates to the last one of the same path: its value is nobody else's."""
        if index is None:
            return "none"
        last, self._indexes[path] = self._indexes.get(path), int(index)
        if last is None:
            return "first"
        if path.startswith("/v1/event/"):  # a hash, that means no order
            return "same" if last == int(index) else "other"
        return "same" if last == int(index) else "higher" if last < int(index) else "lower"

    def _note(self, text: str) -> None:
        """The indexes of keys, for who compares with them later."""
        if '"LockIndex"' not in text:
            return
        found = json.loads(text)
        results = (found.get("Results") or []) if isinstance(found, dict) else found
        for one in results:
            entry = one.get("KV", one)
            if "LockIndex" in entry:
                self._modified[entry["Key"]] = entry["ModifyIndex"]

    def _filled(self, text: str) -> str:
        """The text with sessions for their numbers; one that is not there yet is nobody's."""

        def named(match: re.Match[str]) -> str:
            number, count = int(match[1]), len(self._sessions)
            return self._sessions[number] if -count <= number < count else NOBODY

        text = re.sub(r"\{s(-?\d+)\}", named, text)
        text = re.sub(r"\{m:([^{}]*)\}", lambda key: str(self._modified.get(key[1], 0)), text)
        return re.sub(r"\{i:([^{}]*)\}", lambda path: str(self._indexes.get(path[1], 0)), text)


async def differences(ours: str, theirs: str, story: list[Call]) -> list[tuple[Any, Any]]:
    """What the agent at `ours` answered and what it should have, for each line that differs."""
    wrong = []
    async with aiohttp.ClientSession() as session:
        mine, real = Asked(session, ours), Asked(session, theirs)
        for call in story:
            expected, found = await real.answer(call), await mine.answer(call)
            if found != expected:
                wrong.append((found, expected))
    return wrong


def neutral(text: str) -> Any:
    try:
        return same(json.loads(text))
    except ValueError:
        return text.rstrip("\n")


def same(value: Any) -> Any:
    if isinstance(value, list):
        found = [same(one) for one in value]
        if all(isinstance(one, str) for one in found):
            return sorted(found)
        # What Go keeps in maps comes in any order.
        return sorted(found, key=_place)
    if not isinstance(value, dict):
        return value
    return {key: same(_anybodys(key, one, value)) for key, one in value.items()}


def _place(one: Any) -> str:
    if not isinstance(one, dict):
        return ""
    if "LockDelay" in one:
        return str(one["ID"])
    if "AggregatedStatus" in one:
        return str(one["Service"]["ID"])
    return str(one.get("CheckID", "")) if "Status" in one else ""


def _anybodys(key: str, one: Any, owner: dict[str, Any]) -> Any:
    """A value without what is only this agent's own."""
    if key == "ContentHash" or (key == "ID" and re.fullmatch(r"[0-9a-f-]{36}", str(one))):
        return "..."
    if key in INDEXES:
        return one > 0
    if key == "What":  # the error of a transaction
        return re.sub(r"current modify index \d+", "current modify index ...", str(one))
    if key == "Port" and owner.get("Service") == "consul":
        return "its own"
    if key == "Node" and isinstance(one, str) and not one.startswith("far"):
        return "here"
    return one
