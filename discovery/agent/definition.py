"""
What a client may register: JSON bodies to records, refused with the words of Consul 1.8.7.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from discovery.agent import go
from discovery.agent.go import Refused

MIN_DEREGISTER_SECONDS = 60.0
MAX_META = 64
STATUSES = ("passing", "warning", "critical")


@dataclass(slots=True)
class CheckDefinition:
    """A check as asked for; times are seconds, 0 where not given."""

    id: str = ""
    name: str = ""
    status: str = ""
    notes: str = ""
    service_id: str = ""
    script: list[str] = field(default_factory=list)
    http: str = ""
    method: str = ""
    headers: dict[str, list[str]] = field(default_factory=dict)
    body: str = ""
    tcp: str = ""
    grpc: str = ""
    grpc_tls: bool = False
    tls_skip_verify: bool = False
    interval: float = 0.0
    timeout: float = 0.0
    ttl: float = 0.0
    deregister_after: float = 0.0
    passing_after: int = 0
    critical_after: int = 0

    @property
    def kind(self) -> str:
        for kind in ("http", "tcp", "grpc"):
            if getattr(self, kind):
                return kind
        return "ttl"


@dataclass(slots=True)
class ServiceDefinition:
    id: str = ""
    name: str = ""
    address: str = ""
    port: int = 0
    tags: list[str] | None = None
    meta: dict[str, str] = field(default_factory=dict)
    passing_weight: int = 1
    warning_weight: int = 1
    tag_override: bool = False
    tagged_addresses: dict[str, Any] = field(default_factory=dict)
    checks: list[CheckDefinition] = field(default_factory=list)


_CHECK = {
    "checkid": ("id", "string"),
    "id": ("id", "string"),
    "name": ("name", "string"),
    "status": ("status", "string"),
    "notes": ("notes", "string"),
    "serviceid": ("service_id", "string"),
    "service_id": ("service_id", "string"),
    "args": ("script", "[]string"),
    "scriptargs": ("script", "[]string"),
    "script_args": ("script", "[]string"),
    "http": ("http", "string"),
    "method": ("method", "string"),
    "header": ("headers", "map[string][]string"),
    "body": ("body", "string"),
    "tcp": ("tcp", "string"),
    "grpc": ("grpc", "string"),
    "grpcusetls": ("grpc_tls", "bool"),
    "tlsskipverify": ("tls_skip_verify", "bool"),
    "tls_skip_verify": ("tls_skip_verify", "bool"),
    "interval": ("interval", "duration"),
    "timeout": ("timeout", "duration"),
    "ttl": ("ttl", "duration"),
    "deregistercriticalserviceafter": ("deregister_after", "duration"),
    "deregister_critical_service_after": ("deregister_after", "duration"),
    "successbeforepassing": ("passing_after", "int"),
    "failuresbeforecritical": ("critical_after", "int"),
    "outputmaxsize": ("", "int"),
    "shell": ("", "string"),
    "aliasnode": ("", "string"),
    "aliasservice": ("", "string"),
    "dockercontainerid": ("", "string"),
    "docker_container_id": ("", "string"),
}
_SERVICE = {
    "id": ("id", "string"),
    "name": ("name", "string"),
    "address": ("address", "string"),
    "port": ("port", "int"),
    "tags": ("tags", "[]string"),
    "meta": ("meta", "map[string]string"),
    "enabletagoverride": ("tag_override", "bool"),
    "enable_tag_override": ("tag_override", "bool"),
    "taggedaddresses": ("tagged_addresses", "map[string]structs.ServiceAddress"),
    "tagged_addresses": ("tagged_addresses", "map[string]structs.ServiceAddress"),
    "weights": ("", "struct"),
    "check": ("", "struct"),
    "checks": ("", "[]struct"),
    "kind": ("", "string"),
    "proxy": ("", "struct"),
    "connect": ("", "struct"),
    "token": ("", "string"),
}
# The Go types of the two bodies, as refusals name them.
_SERVICE_TYPE = (
    'struct { EnableTagOverrideSnake bool "json:\\"enable_tag_override\\"";'
    ' TaggedAddressesSnake map[string]structs.ServiceAddress "json:\\"tagged_addresses\\"";'
    " *structs.Alias }"
)
_CHECK_TYPE = (
    "struct { Interval interface {}; Timeout interface {}; TTL interface {};"
    ' DeregisterCriticalServiceAfter interface {}; Args []string "json:\\"args\\"";'
    ' ScriptArgsSnake []string "json:\\"script_args\\"";'
    " DeregisterCriticalServiceAfterSnake interface {}"
    ' "json:\\"deregister_critical_service_after\\"";'
    ' DockerContainerIDSnake string "json:\\"docker_container_id\\"";'
    ' TLSSkipVerifySnake bool "json:\\"tls_skip_verify\\"";'
    ' ServiceIDSnake string "json:\\"service_id\\""; *structs.Alias }'
)


def service(body: bytes) -> ServiceDefinition:
    """The body of PUT /v1/agent/service/register."""
    found = go.decode(body, _SERVICE_TYPE)
    definition = ServiceDefinition(**go.fields(found, _SERVICE, strict=True))
    named = {key.lower(): value for key, value in found.items()}
    if not definition.name:
        raise Refused(400, "Missing service name")
    if definition.address in ("0.0.0.0", "::", "[::]"):  # noqa: S104 - refused, not bound
        raise Refused(400, "Invalid service address")
    _check_meta(definition.meta)
    weights = named.get("weights")
    if weights is not None:
        numbers = {key.lower(): value for key, value in weights.items()}
        definition.passing_weight = _number(numbers.get("passing", 0))
        definition.warning_weight = _number(numbers.get("warning", 0))
        if definition.passing_weight < 1:
            raise Refused(400, "Invalid Weights: Passing must be greater than 0")
        if definition.warning_weight < 0:
            raise Refused(400, "Invalid Weights: Warning must be greater or equal than 0")
        if max(definition.passing_weight, definition.warning_weight) > 65535:
            raise Refused(400, "Invalid Weights: Weight must be lower or equal to 65535")
    definition.id = definition.id or definition.name
    asked = [*(named.get("checks") or ()), *([named["check"]] if named.get("check") else ())]
    definition.checks = [
        _valid(CheckDefinition(**go.fields(one, _CHECK, strict=True))) for one in asked
    ]
    return definition


def check(body: bytes) -> CheckDefinition:
    """The body of PUT /v1/agent/check/register."""
    definition = CheckDefinition(**go.fields(go.decode(body, _CHECK_TYPE), _CHECK, strict=True))
    if not definition.name:
        raise Refused(400, "Missing check name")
    return _valid(definition)


def _check_meta(meta: dict[str, str]) -> None:
    if len(meta) > MAX_META:
        words = f"Node metadata cannot contain more than {MAX_META} key/value pairs"
        raise Refused(400, f"Invalid Service Meta: {words}")
    for key, value in meta.items():
        why = _wrong_meta(key, value)
        if why:
            pair = f"Couldn't load metadata pair ('{key}', '{value}')"
            raise Refused(400, f"Invalid Service Meta: {pair}: {why}")


def _wrong_meta(key: str, value: str) -> str:
    if not key:
        return "Key cannot be blank"
    if not re.fullmatch(r"[a-zA-Z0-9_-]+", key):
        return "Key contains invalid characters"
    if len(key) > 128:
        return "Key is too long (limit: 128 characters)"
    if key.startswith("consul-"):
        return "Key prefix 'consul-' is reserved for internal use"
    return "Value is too long (limit: 512 characters)" if len(value) > 512 else ""


def _valid(definition: CheckDefinition) -> CheckDefinition:
    probes = any((definition.script, definition.http, definition.tcp, definition.grpc))
    if definition.interval > 0 and definition.ttl > 0:
        raise Refused(400, "Invalid check: Interval and TTL cannot both be specified")
    if probes and definition.interval <= 0:
        raise Refused(400, "Invalid check: Interval must be > 0 for Script, HTTP, or TCP checks")
    if not probes and definition.ttl <= 0:
        raise Refused(400, "Invalid check: TTL must be > 0 for TTL checks")
    if definition.script:
        raise Refused(
            500,
            "Scripts are disabled on this agent from remote calls; to enable, configure"
            " 'enable_script_checks' to true",
        )
    if definition.status and definition.status not in STATUSES:
        raise Refused(400, "Status for checks must 'passing', 'warning', 'critical'")
    if 0 < definition.deregister_after < MIN_DEREGISTER_SECONDS:
        definition.deregister_after = MIN_DEREGISTER_SECONDS
    return definition


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise Refused(
            400,
            f"Request decode failed: json: cannot unmarshal {go.kind(value)}"
            " into Go struct field .Weights of type int",
        )
    return value
