"""
The embedded agent and the real Consul, asked the same things one after the other, answer the same.

What differs between any two agents is left out of the comparison: node ids, indexes, hashes and
the words of failed connections.
"""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp

from discovery.agent import Agent

ORDERS = {
    "Name": "orders",
    "ID": "o1",
    "Address": "127.0.0.1",
    "Port": 5001,
    "Tags": ["grpc", "v2"],
    "Meta": {"zone": "a"},
    "Weights": {"Passing": 10, "Warning": 1},
    "Checks": [{"TTL": "100s", "Status": "passing"}],
}
TWO_CHECKS = ORDERS | {
    "ID": "o2",
    "Checks": [
        {"TTL": "100s", "Status": "warning", "Notes": "n"},
        {"Name": "mine", "CheckID": "mine", "TTL": "100s"},
    ],
}
REGISTER = "/v1/agent/service/register"

Call = tuple[str, str, object]

# One transcript: each line is asked of both agents in turn.
STORY: list[Call] = [
    ("GET", "/v1/catalog/services", None),
    ("GET", "/v1/catalog/nodes", None),
    ("GET", "/v1/health/service/orders", None),
    ("GET", "/v1/health/service/consul", None),
    ("PUT", REGISTER, ORDERS),
    ("GET", "/v1/health/service/orders", None),
    ("GET", "/v1/catalog/service/orders", None),
    ("GET", "/v1/catalog/service/orders?tag=v2", None),
    ("GET", "/v1/catalog/service/orders?tag=v3", None),
    ("GET", "/v1/health/service/orders?tag=grpc&tag=v3", None),
    ("GET", "/v1/agent/services", None),
    ("GET", "/v1/agent/service/o1", None),
    ("GET", "/v1/agent/service/nobody", None),
    ("GET", "/v1/agent/checks", None),
    ("PUT", REGISTER, TWO_CHECKS),
    ("GET", "/v1/health/checks/orders", None),
    ("GET", "/v1/health/service/orders?passing", None),
    ("GET", "/v1/health/service/orders?passing=0", None),
    ("GET", "/v1/health/service/orders?passing=maybe", None),
    ("GET", "/v1/agent/health/service/name/orders", None),
    ("GET", "/v1/agent/health/service/id/o1", None),
    ("GET", "/v1/agent/health/service/id/o2?format=text", None),
    ("GET", "/v1/agent/health/service/id/nobody", None),
    ("GET", "/v1/agent/health/service/name/nobody", None),
    ("PUT", "/v1/agent/check/pass/mine?note=well", None),
    ("PUT", "/v1/agent/check/warn/mine", None),
    ("PUT", "/v1/agent/check/fail/mine", None),
    ("PUT", "/v1/agent/check/update/mine", {"Status": "passing", "Output": "fine"}),
    ("PUT", "/v1/agent/check/update/mine", {"Status": "fine"}),
    ("PUT", "/v1/agent/check/update/mine", {}),
    ("PUT", "/v1/agent/check/pass/nobody", None),
    ("GET", "/v1/health/checks/orders", None),
    ("GET", "/v1/health/state/any", None),
    ("GET", "/v1/health/state/passing", None),
    ("GET", "/v1/health/state/nonsense", None),
    ("GET", "/v1/health/node/vm", None),
    ("GET", "/v1/catalog/node/vm", None),
    ("GET", "/v1/catalog/node/nobody", None),
    ("PUT", "/v1/agent/service/maintenance/o1?enable=true&reason=why", None),
    ("GET", "/v1/health/service/orders", None),
    ("GET", "/v1/agent/health/service/id/o1", None),
    ("PUT", "/v1/agent/service/maintenance/o1?enable=false", None),
    ("PUT", "/v1/agent/service/maintenance/o1?enable=perhaps", None),
    ("PUT", "/v1/agent/service/maintenance/o1", None),
    ("PUT", "/v1/agent/service/maintenance/nobody?enable=true", None),
    ("PUT", "/v1/agent/maintenance?enable=true", None),
    ("GET", "/v1/health/service/orders", None),
    ("PUT", "/v1/agent/maintenance?enable=false", None),
    ("PUT", "/v1/agent/maintenance", None),
    # The same id again: the checks that are not named stay, unless asked for.
    ("PUT", REGISTER, ORDERS | {"ID": "o2", "Port": 5002}),
    ("GET", "/v1/health/checks/orders", None),
    ("PUT", REGISTER + "?replace-existing-checks=true", ORDERS | {"ID": "o2", "Port": 5002}),
    ("GET", "/v1/health/checks/orders", None),
    ("PUT", REGISTER, {}),
    ("PUT", REGISTER, ""),
    ("PUT", REGISTER, {"Name": "x", "Foo": 1}),
    ("PUT", REGISTER, {"Name": "x", "Port": "abc"}),
    ("PUT", REGISTER, {"Name": "x", "Address": "0.0.0.0"}),
    ("PUT", REGISTER, {"Name": "x", "Weights": {"Passing": 0, "Warning": 1}}),
    ("PUT", REGISTER, {"Name": "x", "Check": {"HTTP": "http://x"}}),
    ("PUT", REGISTER, {"Name": "x", "Check": {"TTL": "1s", "Interval": "1s"}}),
    ("PUT", REGISTER, {"Name": "x", "Check": {"Status": "passing"}}),
    ("PUT", REGISTER, {"Name": "x", "Check": {"TTL": "1s", "Status": "nope"}}),
    ("PUT", REGISTER, {"Name": "x", "Check": {"TTL": "abc"}}),
    ("PUT", REGISTER, {"Name": "x", "Check": {"Args": ["true"], "Interval": "1s"}}),
    ("PUT", REGISTER, {"name": "lower", "port": 7, "check": {}}),
    ("GET", "/v1/agent/service/lower", None),
    ("GET", "/v1/catalog/services", None),
    ("PUT", "/v1/agent/check/register", {"Name": "own", "TTL": "100s"}),
    ("PUT", "/v1/agent/check/register", {"TTL": "100s"}),
    ("PUT", "/v1/agent/check/register", {"Name": "n", "TTL": "9s", "ServiceID": "nobody"}),
    ("GET", "/v1/agent/checks", None),
    ("PUT", "/v1/agent/check/deregister/own", None),
    ("PUT", "/v1/agent/check/deregister/nobody", None),
    ("PUT", "/v1/agent/service/deregister/lower", None),
    ("PUT", "/v1/agent/service/deregister/nobody", None),
    ("PUT", "/v1/agent/service/deregister/o1", None),
    ("PUT", "/v1/agent/service/deregister/o2", None),
    ("GET", "/v1/health/service/orders", None),
    ("GET", "/v1/health/checks/orders", None),
    ("GET", "/v1/catalog/services", None),
    ("GET", "/v1/health/service/", None),
    ("GET", "/v1/health/service/orders?index=abc", None),
    ("GET", "/v1/health/service/orders?index=1&wait=abc", None),
    ("GET", "/v1/health/service/orders?index=1&wait=1", None),
    ("GET", "/v1/health/service/orders?stale&consistent", None),
    ("GET", "/v1/nothing", None),
    ("POST", "/v1/health/service/orders", None),
    ("GET", "/v1/agent/service/register", None),
    ("GET", "/v1/catalog/datacenters", None),
    (
        "PUT",
        "/v1/catalog/register",
        {"Node": "far", "Address": "10.0.0.9", "Service": {"Service": "db", "Port": 5432}},
    ),
    ("GET", "/v1/health/service/db", None),
    ("GET", "/v1/catalog/service/db", None),
    ("GET", "/v1/catalog/nodes", None),
    ("PUT", "/v1/catalog/deregister", {"Node": "far"}),
    ("PUT", "/v1/catalog/deregister", {}),
    ("PUT", "/v1/catalog/register", {"Node": "far"}),
    ("GET", "/v1/catalog/nodes", None),
    ("GET", "/v1/health/service/db", None),
]

INDEXES = ("CreateIndex", "ModifyIndex")
HEADERS = ("X-Consul-KnownLeader", "X-Consul-LastContact", "X-Consul-Effective-Consistency")


class Asked:
    """One agent that answers, its own names made neutral."""

    def __init__(self, session: aiohttp.ClientSession, address: str) -> None:
        self._session = session
        self._origin = f"http://{address}"
        self._node_id = ""

    async def answer(self, call: Call) -> dict[str, Any]:
        method, path, body = call
        data = body if body is None or isinstance(body, str) else json.dumps(body)
        async with self._session.request(method, self._origin + path, data=data) as response:
            text = await response.text()
            return {
                "call": call,
                "status": response.status,
                "indexed": "X-Consul-Index" in response.headers,
                "type": response.content_type,
                "headers": {name: response.headers.get(name) for name in HEADERS},
                "body": _neutral(text),
            }


def _neutral(text: str) -> Any:
    try:
        return _same(json.loads(text))
    except ValueError:
        return text.rstrip("\n")


def _same(value: Any) -> Any:
    if isinstance(value, list):
        same = [_same(one) for one in value]
        if same and isinstance(same[0], dict) and "CheckID" in same[0]:
            same.sort(key=lambda check: (check["Node"], check["CheckID"]))  # Go's maps: any order
        return same
    if not isinstance(value, dict):
        return value
    return {key: _same(_anybodys(key, one, value)) for key, one in value.items()}


def _anybodys(key: str, one: Any, owner: dict[str, Any]) -> Any:
    """A value without what is only this agent's own."""
    if key == "ContentHash" or (key == "ID" and re.fullmatch(r"[0-9a-f-]{36}", str(one))):
        return "..."
    if key in INDEXES:
        return one > 0
    if key == "Port" and owner.get("Service") == "consul":
        return "its own"
    if key == "Node" and isinstance(one, str) and one != "far":
        return "here"
    return one


async def test_both_agents_answer_a_story_alike(agent: Agent, consul: str) -> None:
    async with aiohttp.ClientSession() as session:
        real, ours = Asked(session, consul), Asked(session, agent.address)
        for call in STORY:
            expected = await real.answer(call)

            assert await ours.answer(call) == expected
