"""
Sessions, locks, transactions, filters and the small endpoints, beside the real Consul.

Each story is told to both agents line by line, and every answer is compared.
"""

from __future__ import annotations

from urllib.parse import quote

import aiohttp
import pytest

from discovery.agent import Agent

from .comparing import Asked, Call

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

EXPRESSIONS = """
Service.ID == o1
Service.ID != o1
Service.Port == 5001
Service.Port == "5001"
Service.Port == abc
Service.Port == 0x1389
"v2" in Service.Tags
v2 not in Service.Tags
Service.Tags contains v2
Service.Tags not contains v2
Service.Tags is empty
Service.Tags is not empty
zone in Service.Meta
Service.Meta["a-b"] == x
Service.Meta.nobody == a
Service.Meta.nobody != a
Service.Meta.nobody contains a
Service.Meta.nobody not contains a
Service.Meta.nobody matches a
Service.Meta.nobody not matches a
a in Service.Meta.zone
Service.Meta.zone is empty
Checks.Status == passing
Checks.Status != passing
"pass" in Checks.Status
"pass" not in Checks.Status
Checks.ServiceTags contains v2
Checks.Definition.HTTP == ""
Checks is empty
Checks is not empty
not Service.ID == o1
not (Service.ID == o1 or Service.ID == o2)
not not Service.ID == o1
Service.ID == o1 or Service.ID == o2 and Service.Port == 9
(Service.ID == o1 or Service.ID == o2) and Service.Port == 5002
Service.ID matches "^o[12]$"
Service.ID not matches "1$"
Service.ID matches "("
Service.ID matches "[a"
Service.ID matches "*"
Service.ID contains o
Service.ID is empty
Service.ID in o
Service.Tags == v2
Service.Tags.v2 == v2
Service.Tags matches v
Service == x
Service.EnableTagOverride == false
Service.EnableTagOverride != T
Service.EnableTagOverride == nope
Service.Weights.Passing == 1
Service.Connect.Native == false
Service.Proxy.DestinationServiceName == ""
Service.TaggedAddresses is empty
Service.TaggedAddresses.lan_ipv4.Port == 5002
Service.Kind == ""
Node.Datacenter == dc1
Node.Meta["consul-network-segment"] == ""
Foo == bar
Foo.bar == x
Service.Foo == bar
Service
Service.ID ==
(Service.ID == o1
Service.ID == o1)
((Service.ID == o1)
Service.ID === o1
Service.ID == o-1
Service.ID == -1
Service.ID == 1.
Service.ID == 01
Service.ID == "o1
Service.ID == `o1`
Service.ID == "o\\x"
Service.ID == "o\\"1"
Service.ID == o1 AND Service.Port == 1
Service.ID == "o1" Service.Port == 2
Service.Meta[zone] == a
Service.Meta["zone" == a
1 == Service.ID
o1 in 5
o1 in Service.ID
/x/ == y
and
not
not(Service.ID == o1)
( Service.ID == o1 )
  Service.ID  ==  o1
Service.ID == é
""".strip("\n").split("\n")

FILTERS: list[Call] = [
    (
        "PUT",
        REGISTER,
        {
            "Name": "orders", "ID": "o1", "Port": 5001, "Tags": ["grpc", "v2"],
            "Meta": {"zone": "a", "a-b": "x"}, "Check": {"TTL": "500s", "Status": "passing"},
        },
    ),
    (
        "PUT",
        REGISTER,
        {"Name": "orders", "ID": "o2", "Port": 5002, "Address": "10.0.0.1", "Tags": ["v1"],
         "Check": {"TTL": "500s"}},
    ),
    *[("GET", f"/v1/health/service/orders?filter={quote(one)}", None) for one in EXPRESSIONS],
    *[
        ("GET", f"{path}?filter={quote(one)}", None)
        for path, filters in (
            ("/v1/agent/services", ("Service == orders", "ID == o1", "Foo == x", "Port",
                                    "Tags contains v2")),
            ("/v1/agent/checks", ("ServiceID == o1", "Foo == x", "Status == critical")),
            ("/v1/health/checks/orders", ("ServiceID == o1", "Foo == x")),
            ("/v1/health/state/any", ("ServiceID == o1", "ServiceTags contains v1",
                                      "Definition == x")),
            ("/v1/health/node/vm", ("ServiceID == o1", "Foo == x")),
            ("/v1/catalog/nodes", ("Node == nobody", "Foo == x", "Address == `127.0.0.1`")),
            ("/v1/catalog/node/vm", ("Service == orders", "ID == o1", "Foo == x")),
            ("/v1/catalog/node-services/vm", ("ID == o1", "Foo == x")),
            ("/v1/catalog/service/orders", (
                "ServiceID == o1", "ServiceMeta.zone == a", "ServiceTags contains v1", "ID == x",
                "ServiceWeights.Passing == 1", "NodeMeta is empty", "Service == orders",
                "ServiceTaggedAddresses is not empty", "ServiceConnect.Native == false",
            )),
            ("/v1/catalog/services", ("Foo == x",)),
        )
        for one in filters
    ],
    ("GET", "/v1/catalog/node-services/nobody", None),
    ("GET", "/v1/catalog/node-services/", None),
    ("GET", "/v1/catalog/node/", None),
    ("GET", "/v1/catalog/connect/orders", None),
    ("GET", "/v1/health/connect/orders", None),
    ("GET", "/v1/health/connect/", None),
    ("PUT", "/v1/catalog/register", {
        "Node": "far", "Address": "10.0.0.9", "NodeMeta": {"zone": "b"},
        "Service": {"Service": "orders", "ID": "o9", "Port": 1}}),
    *[
        ("GET", path + query, None)
        for path in (
            "/v1/catalog/nodes", "/v1/catalog/services", "/v1/catalog/service/orders",
            "/v1/health/service/orders", "/v1/health/checks/orders", "/v1/health/state/any",
        )
        for query in (
            "?node-meta=zone:b", "?node-meta=zone:c", "?node-meta=zone", "?dc=elsewhere", "?dc=dc1",
        )
    ],
    ("PUT", "/v1/catalog/deregister", {"Node": "far"}),
    # Which node is nearest takes Consul a quarter of a minute to find out; alone there is no doubt.
    *[
        ("GET", f"/v1/health/service/orders?near={node}", None)
        for node in ("_agent", "vm", "nobody")
    ],
    ("GET", "/v1/agent/service/o1?hash=other&wait=1s", None),
    ("GET", "/v1/agent/service/o1?wait=nonsense", None),
    ("GET", "/v1/agent/service/", None),
    ("GET", "/v1/agent/health/service/name/", None),
    ("GET", "/v1/agent/health/service/id/", None),
    ("PUT", "/v1/agent/service/deregister/", None),
    ("PUT", "/v1/agent/check/deregister/", None),
    ("PUT", "/v1/agent/check/pass/", None),
    ("GET", "/v1/health/checks/", None),
    ("GET", "/v1/health/state/", None),
    ("GET", "/v1/health/node/", None),
    ("PUT", "/v1/agent/service/deregister/o1", None),
    ("PUT", "/v1/agent/service/deregister/o2", None),
    # the edges of HTTP
    ("OPTIONS", "/v1/kv/x", None),
    ("OPTIONS", "/v1/catalog/nodes", None),
    ("HEAD", "/v1/kv/x", None),
    ("GET", "/v1/kv", None),
    ("GET", "/v1//status/leader", None),
    ("GET", "/v1/kv/a//b", None),
    ("PUT", "/v1/kv/a/../b", "x"),
    ("GET", "/v1/agent/members?segment=x", None),
    ("PUT", "/v1/agent/reload", None),
    ("PUT", "/v1/agent/force-leave/nobody", None),
    ("GET", "/v1/acl/tokens", None),
    ("PUT", REGISTER, "[]"),
    ("PUT", REGISTER, '"x"'),
    ("PUT", REGISTER, '{"Name": "x", "Tags": [1]}'),
    ("PUT", REGISTER, '{"Name": "x", "Meta": {"a": 1}}'),
    *[
        ("PUT", REGISTER, {"Name": "x", "Meta": meta})
        for meta in ({"a.b": "x"}, {"": "x"}, {"k" * 129: "x"}, {"k": "x" * 513},
                     {"consul-x": "y"}, {f"k{n}": "" for n in range(65)})
    ],
    ("PUT", REGISTER, "{} x"),
    ("PUT", "/v1/agent/check/register", "[]"),
    ("PUT", "/v1/agent/check/update/x", "[]"),
    ("PUT", "/v1/catalog/register", "[]"),
    ("PUT", "/v1/catalog/deregister", "[]"),
    ("PUT", "/v1/event/fire/", None),
    ("PUT", "/v1/event/fire/big", "x" * 600),
    ("PUT", "/v1/event/fire/e?tag=x", None),
    ("PUT", "/v1/event/fire/e?node=(", None),
    ("PUT", "/v1/event/fire/e?service=((&tag=x", None),
    ("PUT", "/v1/event/fire/deploy?node=elsewhere", "payload"),
    ("GET", "/v1/event/list?name=deploy", None),
    ("GET", "/v1/event/list?index=x", None),
    ("GET", "/v1/event/fire/e", None),
]  # fmt: skip


@pytest.mark.parametrize(
    "story",
    [
        pytest.param(SESSIONS, id="sessions"),
        pytest.param(TRANSACTIONS, id="transactions"),
        pytest.param(FILTERS, id="filters"),
    ],
)
async def test_both_agents_answer_each_story_alike(
    agent: Agent, consul: str, story: list[Call]
) -> None:
    async with aiohttp.ClientSession() as session:
        real, ours = Asked(session, consul), Asked(session, agent.address)
        wrong = []
        for call in story:
            expected, found = await real.answer(call), await ours.answer(call)
            if found != expected:
                wrong.append((found, expected))

        assert wrong == []
