"""Many endpoints: what one change costs, counted and not timed."""

from __future__ import annotations

import msgspec
import pytest

from discovery import Endpoint
from discovery.agent import Agent
from discovery.agent.definition import CheckDefinition, ServiceDefinition
from discovery.agent.wire import Query, Request, Response
from discovery.consul import schema
from mesh.client.pool import Pool

COUNT = 400


def register(agent: Agent, number: int, *, port: int = 50051) -> None:
    asked = ServiceDefinition(
        f"o{number:04}",
        "orders",
        "10.0.0.1",
        port,
        checks=[CheckDefinition(ttl=600.0, status="passing")],
    )
    agent.local.register(asked, replace_checks=True)


def health(agent: Agent) -> bytes:
    handler = agent.routes()["/v1/health/service/"]["GET"]
    answer = handler(Request("GET", "/v1/health/service/orders", Query(), {}, rest="orders"))
    assert isinstance(answer, Response)
    return answer.body


def printed(agent: Agent) -> dict[str, object]:
    """What the agent keeps of each instance for the next answer."""
    services = agent.catalog.services.values()
    return {record.id: record.shown for record in services if record.name == "orders"}


async def test_the_agent_prints_again_what_has_changed(agent: Agent) -> None:
    for number in range(COUNT):
        register(agent, number)
    health(agent)
    before = printed(agent)
    agent.local.heartbeat("service:o0007", "critical", "")
    register(agent, 9, port=1)
    agent.local.deregister("o0011")
    changed = health(agent)
    after = printed(agent)

    assert [name for name, shown in after.items() if before[name] is not shown] == [
        "o0007",
        "o0009",
    ]
    assert len(msgspec.json.decode(changed)) == COUNT - 1


async def test_watchers_of_one_service_are_told_by_one_printing(agent: Agent) -> None:
    handler = agent.routes()["/v1/health/service/"]["GET"]

    def orders() -> bytes:
        answer = handler(Request("GET", "/v1/health/service/orders", Query(), {}, rest="orders"))
        assert isinstance(answer, Response)
        return answer.body

    register(agent, 0)
    register(agent, 1)
    first = orders()
    record = agent.catalog.services[agent.node.name, "o0000"]
    record.shown = None
    again = orders()
    # Renamed, as Consul has it, an instance leaves the index of its old service alone.
    agent.local.register(ServiceDefinition("o0001", "payments", "10.0.0.1", 1), replace_checks=True)

    assert first == again
    assert record.shown is None
    assert [entry["Service"]["ID"] for entry in msgspec.json.decode(orders())] == ["o0000"]


async def test_a_change_of_the_node_is_a_change_of_all(agent: Agent) -> None:
    for number in range(5):
        register(agent, number)
    health(agent)
    agent.local.maintain_node(enable=True, reason="")
    entries = msgspec.json.decode(health(agent))

    assert all(entry["Checks"][0]["CheckID"] == "_node_maintenance" for entry in entries)


async def test_a_watch_keeps_the_endpoints_that_stayed(agent: Agent) -> None:
    for number in range(COUNT):
        register(agent, number)
    read = schema.Entries()
    before = {endpoint.id: endpoint for endpoint in read(health(agent))}

    agent.local.heartbeat("service:o0007", "critical", "")
    register(agent, COUNT)
    agent.local.deregister("o0200")
    body = health(agent)
    after = {endpoint.id: endpoint for endpoint in read(body)}

    # Between the first and the last change all is read again, and equal; around it nothing is.
    assert tuple(after.values()) == schema.endpoints(body)
    assert all(after[f"o{number:04}"] is before[f"o{number:04}"] for number in range(7))
    assert after.keys() ^ before.keys() == {"o0200", f"o{COUNT:04}"}
    assert after["o0007"] != before["o0007"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "a"),
        ("a", ""),
        ("a b c", "a b c"),
        ("a b c", "a c"),
        ("a c", "a b c"),
        ("a b", "b"),
        ("b", "a b"),
        ("a a", "a"),
        ("a a a", "a a"),
        ("a b c", "c b a"),
        ("a b a", "a"),
    ],
)
def test_any_answer_reads_as_if_it_were_the_first(before: str, after: str) -> None:
    def body(names: str) -> bytes:
        entries = [
            {
                "Node": {"Node": f"n{at}", "Address": "10.0.0.1"},
                "Service": {"ID": name, "Service": "x", "Port": 1},
            }
            for at, name in enumerate(names.split())
        ]
        return msgspec.json.encode(entries)

    read = schema.Entries()
    read(body(before))

    assert read(body(after)) == schema.endpoints(body(after))
    assert read(body(before)) == schema.endpoints(body(before))


async def test_a_client_opens_as_many_channels_as_endpoints_changed() -> None:
    endpoints = [Endpoint(f"o{number}", "127.0.0.1", 1) for number in range(50)]
    pool = Pool(lambda *_: None, drain_seconds=0.1)
    pool.follow(endpoints)
    before = dict(pool.links)
    pool.follow(
        [*endpoints[1:49], Endpoint("o49", "127.0.0.1", 2), Endpoint("o50", "127.0.0.1", 1)]
    )
    after = dict(pool.links)
    await pool.close()

    kept = {name for name, link in after.items() if before.get(name) is link}
    assert kept == {f"o{number}" for number in range(1, 49)}
    assert after.keys() == kept | {"o49", "o50"}
