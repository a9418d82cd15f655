"""
The embedded agent and the real Consul, asked the same things one after the other, answer the same.

A story goes through every endpoint in turn; random sequences go where no story thought of.
"""

from __future__ import annotations

import random
from pathlib import Path

import aiohttp
import pytest

from discovery.agent import Agent

from .comparing import Asked, Call
from .conftest import real_consul
from .wandering import anything

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
    ("GET", "/v1/kv/a", None),
    ("GET", "/v1/kv/?recurse", None),
    ("PUT", "/v1/kv/a", "hello"),
    ("GET", "/v1/kv/a", None),
    ("GET", "/v1/kv/a?raw", None),
    ("PUT", "/v1/kv/a?cas=0", "no"),
    ("PUT", "/v1/kv/a?cas=abc", "no"),
    ("PUT", "/v1/kv/a?flags=42", "more"),
    ("PUT", "/v1/kv/a?flags=x", "no"),
    ("PUT", "/v1/kv/a/b/c?cas=0", "deep"),
    ("PUT", "/v1/kv/a/b/d", ""),
    ("GET", "/v1/kv/a/b/d", None),
    ("GET", "/v1/kv/a?recurse", None),
    ("GET", "/v1/kv/?keys", None),
    ("GET", "/v1/kv/?keys&separator=/", None),
    ("GET", "/v1/kv/a/?keys&separator=/", None),
    ("GET", "/v1/kv/a?keys&separator=/", None),
    ("GET", "/v1/kv/zz?keys", None),
    ("PUT", "/v1/kv/lock?acquire=nobody", "1"),
    ("PUT", "/v1/kv/lock?acquire=00000000-0000-0000-0000-000000000000", "1"),
    ("DELETE", "/v1/kv/a?cas=1", None),
    ("DELETE", "/v1/kv/a", None),
    ("DELETE", "/v1/kv/a", None),
    ("GET", "/v1/kv/a", None),
    ("DELETE", "/v1/kv/a?recurse", None),
    ("GET", "/v1/kv/a?recurse", None),
    ("GET", "/v1/kv/", None),
    ("PUT", "/v1/kv/", "x"),
    ("DELETE", "/v1/kv/", None),
    ("POST", "/v1/kv/a", None),
    ("PUT", "/v1/kv/odd%20key%2Fwith%3Fsigns", "x"),
    ("GET", "/v1/kv/odd%20key%2Fwith%3Fsigns", None),
    ("DELETE", "/v1/kv/?recurse", None),
]


async def test_both_agents_answer_a_story_alike(agent: Agent, tmp_path: Path) -> None:
    async with real_consul(tmp_path) as consul, aiohttp.ClientSession() as session:
        real, ours = Asked(session, consul), Asked(session, agent.address)
        for call in STORY:
            expected = await real.answer(call)

            assert await ours.answer(call) == expected


@pytest.mark.parametrize(
    "sequences", [20, pytest.param(300, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
async def test_both_agents_answer_random_sequences_alike(
    agent: Agent, tmp_path: Path, sequences: int
) -> None:
    """Sequences of 40 calls; the state of one is where the next begins."""
    async with real_consul(tmp_path) as consul, aiohttp.ClientSession() as session:
        real, ours = Asked(session, consul), Asked(session, agent.address)
        for seed in range(sequences):
            rng, story = random.Random(seed), []
            for _ in range(40):
                story.append(call := anything(rng))
                expected = await real.answer(call)

                assert await ours.answer(call) == expected, (seed, story)
