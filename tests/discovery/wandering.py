"""
Calls by lot: what an operator, a client or a careless script might ask of an agent, 40 in a row.

"{s-1}" in a call is the newest session, "{m:key}" the index that the key was last seen with, and
"{i:path}" the index with which that path was last answered: each agent has its own.
"""

from __future__ import annotations

import random
from urllib.parse import quote

from .comparing import Call

REGISTER = "/v1/agent/service/register"
SERVICES, IDS = ("orders", "payments", "Odd.Name"), ("o1", "o2", "p1")
CHECKS = ("service:o1", "service:o2", "service:o2:1", "mine", "nobody")
KEYS = ("a", "a/b", "a/b/c", "b", "")


BLOCKING = ("/v1/health/service/", "/v1/catalog/service/", "/v1/health/checks/")
FILTERS = (
    "Service.Port == 5001",
    "grpc in Service.Tags and not Service.Meta.zone == a",
    "Checks.Status == critical or Service.Weights.Passing != 1",
    "Checks is empty",
    "Service.Nothing == 1",
)
VERBS = ("set", "get", "get-tree", "cas", "delete", "delete-cas", "delete-tree", "lock", "unlock",
         "check-session", "check-not-exists")  # fmt: skip


def with_sessions(rng: random.Random, key: str, check: str) -> list[tuple[int, Call]]:
    """Calls about sessions, of which the newest few are alive."""
    session = f"{{s-{rng.randint(1, 6)}}}"
    lock = rng.choice(("acquire", "acquire", "release"))
    asked = {"LockDelay": "0s", "Behavior": rng.choice(("release", "delete"))}
    if rng.random() < 0.5:
        asked |= {"NodeChecks": [check, "serfHealth"]}
    return [
        (2, ("PUT", "/v1/session/create", asked)),
        (1, ("PUT", f"/v1/session/destroy/{session}", None)),
        (1, ("PUT", f"/v1/session/renew/{session}", None)),
        (1, ("GET", f"/v1/session/info/{session}", None)),
        (1, ("GET", "/v1/session/list", None)),
        (4, ("PUT", f"/v1/kv/{key}?{lock}={session}", rng.choice("xyz"))),
    ]


def operation(rng: random.Random) -> dict[str, object]:
    """One of a transaction; an index is 0 or none that was."""
    asked: dict[str, object] = {"Verb": rng.choice(VERBS), "Key": rng.choice(KEYS)}
    if rng.random() < 0.7:
        asked |= {"Value": rng.choice(("eA==", "eQ==", ""))}
    if rng.random() < 0.5:
        asked |= {"Session": f"{{s-{rng.randint(1, 6)}}}", "Index": 0}
    return {"KV": asked}


def operations(rng: random.Random) -> list[dict[str, object]]:
    """
    Up to four of a transaction; a tree is deleted by one of its own.

    Beside other writes that corrupts Consul 1.8.7's store, which panics over some later write
    (close of closed channel, in go-immutable-radix).
    """
    found = [operation(rng) for _ in range(rng.randint(1, 4))]
    trees = [one for one in found if one["KV"]["Verb"] == "delete-tree"]  # type: ignore[index]
    return trees[:1] or found


def spelt(rng: random.Random, body: dict[str, object]) -> dict[str, object]:
    """Names in lower case now and then, as py-consul has them; Go takes both."""
    if rng.random() < 0.7:
        return body
    return {key.lower(): one for key, one in body.items()}


def of_the_catalog(rng: random.Random, service: str, service_id: str) -> list[tuple[int, Call]]:
    """Nodes that run no agent, and what is on them; past the agent, and in transactions."""
    node = rng.choice(("far", "far", "farther"))
    around: dict[str, object] = {"Node": node, "Address": rng.choice(("10.0.0.9", "10.0.0.8"))}
    if rng.random() < 0.2:
        around |= {"NodeMeta": {"zone": rng.choice("ab")}}
    if rng.random() < 0.1:
        around |= {"SkipNodeUpdate": True}
    about: dict[str, object] = {"Service": service, "ID": service_id, "Port": rng.choice((0, 5432))}
    if rng.random() < 0.3:
        about |= {"Tags": rng.sample(("grpc", "v1"), rng.randint(0, 2)), "Meta": {"zone": "b"}}
    check: dict[str, object] = {"Name": "alive", "Status": rng.choice(("passing", "critical", ""))}
    if rng.random() < 0.7:
        check |= {"ServiceID": service_id}
    if rng.random() < 0.5:
        around |= {"Service": spelt(rng, about)}
    if rng.random() < 0.4:
        around |= {"Check": spelt(rng, check)}
    gone: dict[str, object] = {"Node": node}
    gone |= rng.choice(({}, {"ServiceID": service_id}, {"CheckID": "alive"}))
    verb = rng.choice(("set", "get", "cas", "delete", "delete-cas"))
    operation = rng.choice(
        (
            {"Node": {"Verb": verb, "Node": {"Node": node, "Address": "10.0.0.7"}}},
            {"Service": {"Verb": verb, "Node": node, "Service": about}},
            {"Check": {"Verb": verb, "Check": check | {"Node": node}}},
        )
    )
    near = rng.choice(("nobody", "far"))  # others are near once Consul has learnt their coordinates
    meta = rng.choice(("zone:a", "zone:b", "zone", "consul-network-segment:"))
    where = rng.choice(("/v1/catalog/nodes", "/v1/catalog/services", "/v1/health/state/any"))
    return [
        (4, ("PUT", "/v1/catalog/register", spelt(rng, around))),
        (2, ("PUT", "/v1/catalog/deregister", spelt(rng, gone))),
        (2, ("PUT", "/v1/txn", [operation])),
        (1, ("GET", "/v1/catalog/nodes", None)),
        (1, ("GET", f"/v1/catalog/node/{node}", None)),
        (1, ("GET", f"/v1/catalog/node-services/{node}", None)),
        (1, ("GET", f"/v1/health/node/{node}", None)),
        (1, ("GET", f"/v1/health/service/{service}?near={near}&passing", None)),
        (1, ("GET", f"{where}?node-meta={quote(meta)}", None)),
    ]


def of_keys(rng: random.Random, key: str) -> list[tuple[int, Call]]:
    """Separators, flags, and comparisons with the index that a key really has."""
    separator = rng.choice(("/", "b", "", "%2F"))
    flags = rng.choice(("7", "18446744073709551615", "18446744073709551616", "-1", "x"))
    return [
        (2, ("GET", f"/v1/kv/{key}?keys&separator={separator}", None)),
        (2, ("PUT", f"/v1/kv/{key}?cas={{m:{key}}}", rng.choice("xyz"))),
        (1, ("PUT", f"/v1/kv/{key}?flags={flags}&cas={{m:{key}}}", "f")),
        (1, ("DELETE", f"/v1/kv/{key}?cas={{m:{key}}}", None)),
        (1, ("GET", f"/v1/kv/{key}?index={{i:/v1/kv/{key}}}&wait=10ms", None)),
    ]


def of_the_rest(rng: random.Random, service: str, service_id: str) -> list[tuple[int, Call]]:
    """Events, blocking reads of what has not changed, and the agent itself."""
    event, path = rng.choice(("deploy", "other")), rng.choice(BLOCKING) + service
    suits = rng.choice(
        ("", "?node=vm", "?node=nobody", "?service=o", "?service=o1&tag=v1", "?tag=v1")
    )
    return [
        (1, ("PUT", f"/v1/event/fire/{event}{suits}", rng.choice((None, "payload")))),
        (1, ("GET", f"/v1/event/list?name={event}", None)),
        (2, ("GET", f"{path}?index={{i:{path}}}&wait=10ms", None)),
        (1, ("GET", path, None)),
        (1, ("GET", f"/v1/agent/health/service/id/{service_id}?format=text", None)),
        (1, ("HEAD", f"/v1/catalog/service/{service}", None)),
    ]


def anything(rng: random.Random) -> Call:
    """A call that an operator, a client or a careless script might make."""
    service, service_id, check = rng.choice(SERVICES), rng.choice(IDS), rng.choice(CHECKS)
    key, status = rng.choice(KEYS), rng.choice(("passing", "warning", "critical", "well", ""))
    checks = [
        {"TTL": "500s"} | ({"Status": status} if rng.random() < 0.7 else {})
        for _ in range(rng.choice((0, 1, 1, 2)))
    ]
    definition = {"Name": service, "ID": service_id, "Port": rng.choice((0, 5001, 5002))}
    if rng.random() < 0.5:
        definition |= {"Address": rng.choice(("127.0.0.1", "orders.test", "10.0.0.7", "::1"))}
    if rng.random() < 0.5:
        definition |= {"Tags": rng.sample(("grpc", "v1", "V2"), rng.randint(0, 3))}
    if rng.random() < 0.3:
        definition |= {"Meta": {"zone": rng.choice("ab")}, "Weights": {"Passing": 3, "Warning": 0}}
    if checks:
        definition |= {"Check": checks[0]} if rng.random() < 0.3 else {"Checks": checks}
    replacing = rng.choice(("", "?replace-existing-checks=true"))
    enable = rng.choice(("true", "true", "false", "what"))
    filters = rng.choice(("", "?passing", "?tag=grpc", "?tag=v2", "?stale", "?passing&tag=v1"))
    calls: list[tuple[int, Call]] = [
        (8, ("PUT", REGISTER + replacing, definition)),
        (3, ("PUT", f"/v1/agent/service/deregister/{service_id}", None)),
        (4, ("PUT", f"/v1/agent/check/{rng.choice(('pass', 'warn', 'fail'))}/{check}", None)),
        (2, ("PUT", f"/v1/agent/check/update/{check}", {"Status": status, "Output": "out"})),
        (2, ("PUT", f"/v1/agent/service/maintenance/{service_id}?enable={enable}", None)),
        (1, ("PUT", f"/v1/agent/maintenance?enable={enable}&reason=r", None)),
        (
            2,
            (
                "PUT",
                "/v1/agent/check/register",
                {"Name": "mine", "TTL": "500s"}
                | ({"ServiceID": service_id} if rng.random() < 0.7 else {}),
            ),
        ),
        (1, ("PUT", f"/v1/agent/check/deregister/{check}", None)),
        (6, ("GET", f"/v1/health/service/{service}{filters}", None)),
        (2, ("GET", f"/v1/health/checks/{service}", None)),
        (2, ("GET", f"/v1/health/state/{status or 'any'}", None)),
        (2, ("GET", f"/v1/catalog/service/{service}{filters}", None)),
        (2, ("GET", "/v1/catalog/services", None)),
        (1, ("GET", "/v1/catalog/node/vm", None)),
        (2, ("GET", "/v1/agent/services", None)),
        (2, ("GET", "/v1/agent/checks", None)),
        (2, ("GET", f"/v1/agent/service/{service_id}", None)),
        (2, ("GET", f"/v1/agent/health/service/id/{service_id}", None)),
        (2, ("GET", f"/v1/agent/health/service/name/{service}", None)),
        (3, ("PUT", f"/v1/kv/{key}{rng.choice(('', '?cas=0', '?flags=7'))}", rng.choice("xyz"))),
        (1, ("DELETE", f"/v1/kv/{key}{rng.choice(('', '?recurse', '?cas=0'))}", None)),
        (3, ("GET", f"/v1/kv/{key}{rng.choice(('', '?recurse', '?keys', '?raw'))}", None)),
        *with_sessions(rng, key, check),
        (2, ("PUT", "/v1/txn", operations(rng))),
        (2, ("GET", f"/v1/health/service/{service}?filter={quote(rng.choice(FILTERS))}", None)),
        (1, ("GET", f"/v1/agent/services?filter={quote('Tags contains grpc')}", None)),
    ]
    calls += of_the_catalog(rng, service, service_id)
    calls += of_keys(rng, key)
    calls += of_the_rest(rng, service, service_id)
    weights, choices = zip(*calls, strict=True)
    return rng.choices(choices, weights)[0]
