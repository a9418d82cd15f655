"""
Sessions, locks and transactions, beside the real Consul.

Each story is told to both agents line by line, and every answer is compared.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from discovery.agent import Agent

from .comparing import Call, differences
from .conftest import real_consul

REGISTER = "/v1/agent/service/register"
CREATE = "/v1/session/create"
TXN = "/v1/txn"


def kv(verb: str, key: str, **more: object) -> dict[str, object]:
    return {"KV": {"Verb": verb, "Key": key} | more}


SESSIONS: list[Call] = [
    ("GET", "/v1/session/list", None),
    ("PUT", CREATE, None),
    ("PUT", CREATE, {"Name": "n", "TTL": "10s", "LockDelay": "0s", "Behavior": "delete"}),
    ("PUT", CREATE, {"LockDelay": "0s"}),
    ("GET", "/v1/session/info/{s0}", None),
    ("GET", "/v1/session/info/{s1}", None),
    ("GET", "/v1/session/info/{s9}", None),
    ("GET", "/v1/session/info/short", None),
    ("GET", "/v1/session/info/", None),
    ("GET", "/v1/session/node/vm", None),
    ("GET", "/v1/session/node/", None),
    ("GET", "/v1/session/node/nobody", None),
    ("PUT", "/v1/session/renew/{s1}", None),
    ("PUT", "/v1/session/renew/{s9}", None),
    ("PUT", "/v1/session/renew/short", None),
    ("PUT", "/v1/session/renew/", None),
    ("PUT", "/v1/session/destroy/{s9}", None),
    ("PUT", "/v1/session/destroy/short", None),
    ("PUT", "/v1/session/destroy/", None),
    ("GET", "/v1/session/destroy/x", None),
    *[
        ("PUT", CREATE, body)
        for body in (
            {"TTL": "5s"},
            {"TTL": "abc"},
            {"TTL": "48h"},
            {"TTL": "-1s"},
            {"TTL": 5},
            {"Behavior": "x"},
            {"Node": "nobody"},
            {"Node": ""},
            {"Checks": ["nobody"]},
            {"NodeChecks": ["nobody"]},
            {"ServiceChecks": [{"ID": "nobody"}]},
            {"ServiceChecks": [{"ID": 1}]},
            {"ServiceChecks": "x"},
            {"Checks": "x"},
            {"NodeChecks": "x"},
            {"NodeChecks": [1]},
            {"LockDelay": "abc"},
            {"LockDelay": "5"},
            {"Name": 1},
            {"Unknown": 1, "LockDelay": 5},
            {"LockDelay": 1500, "name": "lower"},
            {"LockDelay": True},
            {"LockDelay": "61s", "TTL": "0s"},
            {"Checks": []},
            {"NodeChecks": None, "Checks": ["nobody"]},
            {"ServiceChecks": [], "ID": "11111111-1111-1111-1111-111111111111"},
            "{",
            '{"Name"',
            '{"Name":]',
            "[]",
            '"x"',
            "nope",
        )
    ],
    ("PUT", CREATE + "?dc=elsewhere", {}),
    ("GET", "/v1/session/list", None),
    # locks
    ("PUT", "/v1/kv/lock?acquire={s2}", "one"),
    ("PUT", "/v1/kv/lock?acquire={s2}", "two"),
    ("PUT", "/v1/kv/lock?acquire={s1}", "three"),
    ("GET", "/v1/kv/lock", None),
    ("PUT", "/v1/kv/lock?flags=4", "plain"),
    ("GET", "/v1/kv/lock", None),
    ("PUT", "/v1/kv/lock?release={s1}", "x"),
    ("PUT", "/v1/kv/lock?release=short", "x"),
    ("PUT", "/v1/kv/lock?release={s2}", "free"),
    ("PUT", "/v1/kv/lock?release={s2}", "free"),
    ("PUT", "/v1/kv/nobody?release={s2}", "free"),
    ("GET", "/v1/kv/lock", None),
    ("PUT", "/v1/kv/lock?acquire=", "x"),
    ("PUT", "/v1/kv/lock?release=", "x"),
    ("PUT", "/v1/kv/lock?acquire={s9}", "x"),
    ("PUT", "/v1/kv/lock?acquire=short", "x"),
    ("PUT", "/v1/kv/lock?acquire={s2}&cas=0", "x"),
    ("PUT", "/v1/kv/lock?cas=1&release=a%20b", "x"),
    ("PUT", "/v1/kv/?acquire={s2}", "x"),
    ("DELETE", "/v1/kv/lock?recurse&cas=1", None),
    ("PUT", "/v1/kv/lock?acquire={s2}", "again"),
    ("PUT", "/v1/session/destroy/{s2}", None),
    ("GET", "/v1/kv/lock", None),
    ("PUT", "/v1/kv/lock?acquire={s1}", "mine"),
    ("PUT", "/v1/kv/lock/deep?acquire={s1}", "mine"),
    ("PUT", "/v1/session/destroy/{s1}", None),
    ("GET", "/v1/kv/lock?recurse", None),
    # the delay: s0 has the default of 15 s
    ("PUT", "/v1/kv/late?acquire={s0}", "x"),
    ("PUT", "/v1/session/destroy/{s0}", None),
    ("PUT", CREATE, {"Name": "after"}),
    ("PUT", "/v1/kv/late?acquire={s3}", "x"),
    ("PUT", TXN, [kv("lock", "late", Session="{s3}", Value="eA==")]),
    ("PUT", "/v1/kv/late", "anybody"),
    ("GET", "/v1/kv/late", None),
    # a check that falls takes its sessions with it
    ("PUT", REGISTER, {"Name": "o", "Check": {"TTL": "500s"}}),
    ("PUT", CREATE, {"ServiceChecks": [{"ID": "service:o"}]}),
    ("PUT", "/v1/agent/check/pass/service:o", None),
    ("PUT", CREATE, {"ServiceChecks": [{"ID": "service:o"}], "Name": "leans", "LockDelay": "0s"}),
    ("PUT", CREATE, {"NodeChecks": ["service:o"], "Name": "leans too"}),
    ("PUT", "/v1/agent/check/fail/service:o", None),
    ("GET", "/v1/session/list", None),
    ("PUT", "/v1/agent/check/pass/service:o", None),
    ("PUT", CREATE, {"Checks": ["service:o"], "Name": "until it goes"}),
    ("PUT", "/v1/agent/service/deregister/o", None),
    ("GET", "/v1/session/list", None),
    ("DELETE", "/v1/kv/?recurse", None),
]

TRANSACTIONS: list[Call] = [
    *[
        ("PUT", TXN, body)
        for body in (
            None, "[]", "{}", "[1]", "[{}]", '[{"KV": 1}]', '[{"Unknown": {}}]', "[", "x",
            [kv("set", "a", Value="aGk=")],
            [kv("get", "a")],
            [kv("get", "nobody")],
            [kv("get-tree", "a")],
            [kv("get-tree", "nobody")],
            [kv("cas", "a", Value="aGk=", Index=1)],
            [kv("cas", "b", Value="aGk=", Index=0), kv("set", "c", Value="aGk=", Flags=7),
             kv("get", "c")],
            [kv("set", "gone", Value="aGk="), kv("get", "nobody"),
             kv("check-index", "c", Index=1)],
            [kv("get", "gone")],
            [kv("check-not-exists", "c"), kv("check-not-exists", "gone"),
             kv("check-session", "c", Session="x"), kv("check-session", "gone", Session="x"),
             kv("check-index", "gone", Index=1)],
            [kv("check-session", "c", Session="")],
            [kv("delete", "c"), kv("delete", "gone"), kv("delete-tree", "gone"),
             kv("delete-cas", "b", Index=1), kv("delete-cas", "gone", Index=3)],
            [kv("delete", "c"), kv("delete-tree", "b")],
            [kv("lock", "c"), kv("unlock", "c"),
             kv("lock", "c", Session="00000000-0000-0000-0000-000000000000"),
             kv("unlock", "c", Session="00000000-0000-0000-0000-000000000000"),
             kv("lock", "c", Session="short")],
            [kv("unknown", "c")],
            [kv("unknown", "c"), kv("set", "d", Value="aGk=")],
            [kv("set", "")],
            [kv("set", "", Value="aGk="), kv("get", "")],
            [kv("delete-tree", "")],
            [kv("set", "e")],
            [kv("set", "e", Value=None)],
            [kv("set", "e", Value="***")],
            [kv("set", "e", Value=1)],
            [kv("set", "e", Flags="x")],
            [kv("set", "e", Unknown=1)],
            [kv("set", f"k{number}", Value="aGk=") for number in range(64)],
            [kv("set", f"k{number}", Value="aGk=") for number in range(65)],
            [kv("delete-tree", "k")],
            [{"Node": {"Verb": "get", "Node": {"Node": "nobody"}}}],
            [{"Node": {"Verb": "set", "Node": {"Node": "far", "Address": "10.0.0.8"}}}],
            [{"Node": {"Verb": "get", "Node": {"Node": "far"}}}],
            [{"Node": {"Verb": "cas", "Node": {"Node": "far", "Address": "10.0.0.9",
                                               "ModifyIndex": 1}}}],
            [{"Node": {"Verb": "unknown", "Node": {"Node": "far"}}}],
            [{"Service": {"Verb": "set", "Node": "far",
                          "Service": {"Service": "db", "ID": "db1", "Port": 5432}}}],
            [{"Service": {"Verb": "get", "Node": "far", "Service": {"ID": "db1"}}}],
            [{"Service": {"Verb": "get", "Node": "far", "Service": {"ID": "db2"}}}],
            [{"Check": {"Verb": "set", "Check": {"Node": "far", "CheckID": "c1", "Name": "c",
                                                 "Status": "passing", "ServiceID": "db1"}}}],
            [{"Check": {"Verb": "get", "Check": {"Node": "far", "CheckID": "c1"}}}],
            [{"Check": {"Verb": "get", "Check": {"Node": "far", "CheckID": "c2"}}}],
            [{"Check": {"Verb": "cas", "Check": {"Node": "far", "CheckID": "c1",
                                                 "ModifyIndex": 2}}}],
            [{"Service": {"Verb": "delete", "Node": "far", "Service": {"ID": "db1"}}}],
            [kv("set", "undone", Value="eA=="),
             {"Node": {"Verb": "set", "Node": {"Node": "near", "Address": "10.0.0.1"}}},
             kv("get", "nobody")],
            [{"Check": {"Verb": "delete", "Check": {"Node": "far", "CheckID": "c1"}}},
             {"Node": {"Verb": "delete", "Node": {"Node": "far"}}}],
        )
    ],
    ("GET", TXN, None),
    ("PUT", TXN + "?dc=elsewhere", []),
    ("GET", "/v1/kv/undone", None),
    ("GET", "/v1/catalog/nodes", None),
    ("GET", "/v1/health/service/db", None),
    ("GET", "/v1/kv/?keys", None),
    ("DELETE", "/v1/kv/?recurse", None),
]  # fmt: skip


@pytest.mark.parametrize(
    "story",
    [pytest.param(SESSIONS, id="sessions"), pytest.param(TRANSACTIONS, id="transactions")],
)
async def test_both_agents_answer_each_story_alike(
    agent: Agent, tmp_path: Path, story: list[Call]
) -> None:
    async with real_consul(tmp_path) as consul:
        assert await differences(agent.address, consul, story) == []
