"""Consul's JSON and the model, and how an address, a token and TLS are found in the environment."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from discovery import Check, DiscoveryError, Endpoint, Health, Instance, connect, from_environment
from discovery.consul import schema
from discovery.consul.registry import ConsulRegistry
from discovery.consul.settings import Settings, from_variables


def entry(**service: Any) -> dict[str, Any]:
    checks = service.pop("Checks", ["passing"])
    node = service.pop("Node", "vm")
    return {
        "Node": {"Node": node, "Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"ID": "o1", "Service": "orders", "Address": "", "Port": 5001} | service,
        "Checks": [{"CheckID": str(at), "Status": status} for at, status in enumerate(checks)],
    }


def endpoints(*entries: dict[str, Any]) -> tuple[Endpoint, ...]:
    return schema.endpoints(json.dumps(entries).encode())


@pytest.mark.parametrize(
    ("statuses", "health"),
    [
        ([], Health.PASSING),
        (["passing", "passing"], Health.PASSING),
        (["passing", "warning"], Health.WARNING),
        (["critical", "passing"], Health.CRITICAL),
        (["warning", "critical", "passing"], Health.CRITICAL),
        (["maintenance"], Health.CRITICAL),
        (["unheard of"], Health.CRITICAL),
    ],
)
def test_an_instance_is_as_well_as_its_worst_check(statuses: list[str], health: Health) -> None:
    assert endpoints(entry(Checks=statuses))[0].health is health


@pytest.mark.parametrize(
    ("statuses", "weight"), [(["passing"], 10), (["warning"], 2), (["critical"], 10)]
)
def test_the_weight_is_that_of_the_health(statuses: list[str], weight: int) -> None:
    (found,) = endpoints(entry(Checks=statuses, Weights={"Passing": 10, "Warning": 2}))

    assert found.weight == weight


def test_an_instance_without_an_address_is_at_its_node() -> None:
    assert [one.address for one in endpoints(entry(), entry(ID="o2", Address="10.0.0.2"))] == [
        "10.0.0.1:5001",
        "10.0.0.2:5001",
    ]


def test_what_cannot_be_called_is_no_endpoint() -> None:
    assert endpoints(entry(Port=0)) == ()


def test_one_id_on_two_nodes_is_two_endpoints() -> None:
    found = endpoints(entry(Node="a"), entry(Node="b"), entry(ID="o2"))

    assert [one.id for one in found] == ["o1@a", "o1@b", "o2"]


def test_the_order_of_an_answer_is_no_difference() -> None:
    one, two = entry(ID="o1"), entry(ID="o2")

    assert endpoints(one, two) == endpoints(two, one)


def test_null_tags_and_meta_are_none_of_them() -> None:
    (found,) = endpoints(entry(Tags=None, Meta=None, Weights=None))

    assert (found.tags, found.meta, found.weight) == ((), {}, 1)


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{}", b"[1]", b'[{"Service": {}}]', b'[{"Node": {}}]', b"[", b"\xff"]
)
def test_what_consul_would_not_say_is_malformed(body: bytes) -> None:
    with pytest.raises(schema.Malformed):
        schema.endpoints(body)


def test_services_are_sorted_and_their_tags_too() -> None:
    found = schema.services(b'{"b": ["z", "a"], "a": null}')

    assert list(found.items()) == [("a", ()), ("b", ("a", "z"))]


@pytest.mark.parametrize(
    ("check", "definition"),
    [
        (
            Check(),
            {
                "GRPC": "127.0.0.1:5001",
                "Interval": "2000ms",
                "Timeout": "1000ms",
                "DeregisterCriticalServiceAfter": "60000ms",
            },
        ),
        (
            Check("ttl", ttl=9.5, deregister_after=90),
            {"TTL": "9500ms", "DeregisterCriticalServiceAfter": "90000ms"},
        ),
        (
            Check("tcp", deregister_after=0),
            {"TCP": "127.0.0.1:5001", "Interval": "2000ms", "Timeout": "1000ms"},
        ),
    ],
)
def test_a_check_is_spelt_as_consul_takes_it(check: Check, definition: dict[str, str]) -> None:
    instance = Instance("orders", "127.0.0.1", 5001, id="o1")

    assert schema.check_definition(instance, check) == definition | {
        "CheckID": "service:o1",
        "Name": "Service 'orders' check",
        "Status": "passing",
    }


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"host": "0.0.0.0"}, "host: '0.0.0.0' is not an address that a client can call"),
        ({"host": "::"}, "host: '::' is not an address"),
        ({"port": 0}, "port: 0 is not between 1 and 65535"),
        ({"port": 65536}, "port: 65536 is not between"),
        ({"service": ""}, "service: '' is not a service name"),
        ({"weight": 0}, "weight: 0 is not between 1 and 65535"),
        ({"warning_weight": -1}, "warning_weight: -1 is not between 0 and 65535"),
    ],
)
def test_an_instance_that_nobody_could_call_is_refused(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(why)):
        Instance(**{"service": "orders", "host": "127.0.0.1", "port": 1} | arguments)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"kind": "script"}, "kind: 'script'"),
        ({"interval": 0}, "interval: 0"),
        ({"deregister_after": 59.0}, "deregister_after: 59.0 is below 60 seconds"),
    ],
)
def test_a_check_that_consul_would_refuse_is_refused(arguments: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Check(**arguments)


def test_an_ipv6_endpoint_is_bracketed() -> None:
    assert Endpoint("o1", "::1", 5001).address == "[::1]:5001"


@pytest.mark.parametrize(
    ("variables", "settings"),
    [
        ({}, Settings()),
        ({"CONSUL_HTTP_ADDR": "10.0.0.1:8501"}, Settings(origin="http://10.0.0.1:8501")),
        ({"CONSUL_HTTP_ADDR": "https://c.test:8501"}, Settings(origin="https://c.test:8501")),
        ({"CONSUL_HTTP_ADDR": "c.test"}, Settings(origin="http://c.test")),
        ({"CONSUL_HTTP_ADDR": "[::1]:8500"}, Settings(origin="http://[::1]:8500")),
        ({"CONSUL_HTTP_ADDR": "http://c.test/at"}, Settings(origin="http://c.test/at")),
        (
            {"CONSUL_HTTP_ADDR": "unix:///run/consul.sock"},
            Settings(origin="http://localhost", socket="/run/consul.sock"),
        ),
        ({"CONSUL_HTTP_SSL": "true"}, Settings(origin="https://127.0.0.1:8500")),
        ({"CONSUL_HTTP_SSL": "0"}, Settings()),
        ({"CONSUL_HTTP_SSL_VERIFY": "false"}, Settings(verify=False)),
        ({"CONSUL_HTTP_TOKEN": "secret"}, Settings(token="secret")),
        ({"CONSUL_HTTP_AUTH": "ann:pass:word"}, Settings(username="ann", password="pass:word")),
        (
            {"CONSUL_CACERT": "ca.pem", "CONSUL_CLIENT_CERT": "c.pem", "CONSUL_CLIENT_KEY": "k"},
            Settings(ca_file="ca.pem", certificate="c.pem", key="k"),
        ),
    ],
)
def test_the_environment_is_read_as_consuls_tools_read_it(
    variables: dict[str, str], settings: Settings
) -> None:
    assert from_variables(variables) == settings


def test_mesh_registry_beats_consul_http_addr_and_keeps_its_token() -> None:
    variables = {
        "MESH_REGISTRY": "consul://10.0.0.1:1?dc=west",
        "CONSUL_HTTP_ADDR": "10.0.0.2:2",
        "CONSUL_HTTP_TOKEN": "secret",
    }
    registry = from_environment(variables)

    assert isinstance(registry, ConsulRegistry)
    assert registry.settings == Settings(
        origin="http://10.0.0.1:1", datacenter="west", token="secret"
    )


def test_a_token_given_beats_the_environments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "from the environment")
    registry = connect("consul://127.0.0.1", token="given")

    assert isinstance(registry, ConsulRegistry)
    assert registry.settings.current_token() == "given"


def test_a_token_file_beats_a_token_and_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("one\n")
    settings = from_variables({"CONSUL_HTTP_TOKEN": "zero", "CONSUL_HTTP_TOKEN_FILE": str(file)})
    tokens = [settings.current_token()]
    file.write_text("two")

    assert [*tokens, settings.current_token()] == ["one", "two"]


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"MESH_REGISTRY": "zookeeper://z"}, "MESH_REGISTRY: .*'zookeeper' is not consul, memory"),
        ({"MESH_REGISTRY": "consul://"}, "MESH_REGISTRY: .*names no host"),
        ({"MESH_REGISTRY": "consul://c:99999"}, "MESH_REGISTRY: .*Port out of range"),
        ({"MESH_REGISTRY": "consul://c?dcc=1"}, "MESH_REGISTRY: .*'dcc' is not one of dc"),
        ({"MESH_REGISTRY": "consul://c?wait=1h"}, "MESH_REGISTRY: .*wait '1h'"),
        ({"MESH_REGISTRY": "static://here"}, "MESH_REGISTRY: .*'here' is not host:port"),
        ({"MESH_REGISTRY": "dns://:1"}, "MESH_REGISTRY: .*is not dns://host:port"),
        ({"CONSUL_HTTP_ADDR": "ftp://c"}, "CONSUL_HTTP_ADDR 'ftp://c' is not host:port"),
        ({"CONSUL_HTTP_ADDR": "c:port"}, "CONSUL_HTTP_ADDR 'c:port': Port could not be cast"),
        (
            {"CONSUL_HTTP_ADDR": "unix:///c.sock", "CONSUL_HTTP_SSL": "1"},
            r"CONSUL_HTTP_SSL '1': a unix socket \(CONSUL_HTTP_ADDR 'unix:///c.sock'\)",
        ),
        ({"CONSUL_HTTP_SSL": "yes"}, "CONSUL_HTTP_SSL 'yes' is neither true nor false"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(variables: dict[str, str], why: str) -> None:
    with pytest.raises(DiscoveryError, match=why):
        from_environment(variables)


@pytest.mark.parametrize(
    ("variables", "why"),
    [
        ({"CONSUL_HTTP_TOKEN_FILE": "/nowhere/token"}, "CONSUL_HTTP_TOKEN_FILE '/nowhere/token'"),
        ({"CONSUL_HTTP_SSL": "1", "CONSUL_CACERT": "/no.pem"}, "CONSUL_CACERT='/no.pem'"),
        ({"CONSUL_HTTP_SSL": "1", "CONSUL_CLIENT_CERT": "/no"}, "CONSUL_CLIENT_CERT='/no'"),
    ],
)
async def test_a_missing_file_is_told_on_entering(variables: dict[str, str], why: str) -> None:
    with pytest.raises(DiscoveryError, match=why):
        async with from_environment(variables):
            pass


def test_secrets_are_not_in_what_is_shown() -> None:
    settings = from_variables({"CONSUL_HTTP_TOKEN": "secret", "CONSUL_HTTP_AUTH": "a:secret"})

    assert "secret" not in settings.shown
    assert urlsplit(settings.shown).port == 8500
