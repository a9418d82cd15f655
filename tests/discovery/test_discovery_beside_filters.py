"""
Filters, the small endpoints and the edges of HTTP, beside the real Consul.

Both agents are asked each line in turn, and every answer is compared, complaints word for word.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from discovery.agent import Agent

from .comparing import Call, differences
from .conftest import real_consul

REGISTER = "/v1/agent/service/register"

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


async def test_both_agents_filter_alike(agent: Agent, tmp_path: Path) -> None:
    async with real_consul(tmp_path) as consul:
        assert await differences(agent.address, consul, FILTERS) == []
