"""
Consul's JSON and the model: what an answer means, what a registration says, how indexes go on.

Pure: bytes and headers in, values out.  An answer that is not what Consul would send raises
Malformed, so that garbage is never mistaken for "nobody is there".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from discovery.model import Check, Endpoint, Health, Instance

WORST = {"passing": 0, "warning": 1, "critical": 2, "maintenance": 2}
HEALTHS = (Health.PASSING, Health.WARNING, Health.CRITICAL)


class Malformed(ValueError):
    """An answer that no Consul agent gives."""


class Node(msgspec.Struct, gc=False):
    Node: str = ""
    Address: str = ""
    Datacenter: str = ""


class Weights(msgspec.Struct, gc=False):
    Passing: int = 1
    Warning: int = 1


class Service(msgspec.Struct, gc=False):
    ID: str
    Service: str
    Address: str = ""
    Port: int = 0
    Tags: list[str] | None = None
    Meta: dict[str, str] | None = None
    Weights: Weights | None = None


class CheckState(msgspec.Struct, gc=False):
    CheckID: str = ""
    Status: str = ""


class Entry(msgspec.Struct, gc=False):
    """One element of /v1/health/service/<name>."""

    Service: Service
    Node: Node = msgspec.field(default_factory=Node)
    Checks: list[CheckState] | None = None


_ENTRY = msgspec.json.Decoder(Entry)
_ALL = msgspec.json.Decoder(list[Entry])
_ENTRIES = msgspec.json.Decoder(list[msgspec.Raw])
_SERVICES = msgspec.json.Decoder(dict[str, list[str] | None])
_AGENT_SERVICE = msgspec.json.Decoder(Service)


def endpoints(body: bytes) -> tuple[Endpoint, ...]:
    """The endpoints of a /v1/health/service answer, sorted by id."""
    return Entries()(body)


class Entries:
    """
    Reads the answers of one watch, which Consul gives whole each time.

    Entries at the front and at the back that are as they were are not read again, so that one
    change among ten thousand costs a comparison of bytes, and unchanged endpoints stay the same
    objects.
    """

    def __init__(self) -> None:
        self._raw: list[msgspec.Raw] = []
        self._read: list[tuple[str, str, Endpoint | None]] = []

    def __call__(self, body: bytes) -> tuple[Endpoint, ...]:
        try:
            raw = _ENTRIES.decode(body)
            front = _alike(raw, self._raw)
            back = _alike(raw[front:][::-1], self._raw[front:][::-1])
            middle = [_read(_ENTRY.decode(one)) for one in raw[front : len(raw) - back]]
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Malformed(f"not an answer of /v1/health/service: {error}") from error
        self._read[front : len(self._read) - back] = middle
        self._raw = raw
        # A service id is unique on one node only.
        owners = Counter(service_id for service_id, _, _ in self._read)
        found = [
            endpoint if owners[service_id] == 1 else replace(endpoint, id=f"{service_id}@{node}")
            for service_id, node, endpoint in self._read
            if endpoint is not None
        ]
        found.sort(key=lambda endpoint: endpoint.id)
        return tuple(found)


def _alike(some: Sequence[msgspec.Raw], others: Sequence[msgspec.Raw]) -> int:
    """How many at the beginning of both are the same."""
    count = 0
    for one, other in zip(some, others, strict=False):
        if one != other:
            break
        count += 1
    return count


def _read(entry: Entry) -> tuple[str, str, Endpoint | None]:
    """Service id, node and endpoint; None where nothing says how to call it."""
    service, node = entry.Service, entry.Node
    host = service.Address or node.Address
    if service.Port <= 0 or not host:
        return service.ID, node.Node, None
    health = worst(entry.Checks or ())
    weights = service.Weights or Weights()
    endpoint = Endpoint(
        service.ID,
        host,
        service.Port,
        tuple(service.Tags or ()),
        service.Meta or {},
        max(0, weights.Warning if health is Health.WARNING else weights.Passing),
        health,
    )
    return service.ID, node.Node, endpoint


def worst(checks: Iterable[CheckState]) -> Health:
    """
    The health of an instance: that of its worst check, its node's included.

    Maintenance is a critical check of its own, `_service_maintenance:<id>`; a status that nobody
    knows counts as critical, since it is not a reason to call.
    """
    return HEALTHS[max((WORST.get(check.Status, 2) for check in checks), default=0)]


def services(body: bytes) -> dict[str, tuple[str, ...]]:
    """Name to sorted tags, of a /v1/catalog/services answer."""
    try:
        found = _SERVICES.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not an answer of /v1/catalog/services: {error}") from error
    return {name: tuple(sorted(found[name] or ())) for name in sorted(found)}


def same_place(body: bytes, instance: Instance) -> bool:
    """Whether a /v1/agent/service/<id> answer is `instance` and not a namesake elsewhere."""
    try:
        service = _AGENT_SERVICE.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not an answer of /v1/agent/service: {error}") from error
    return (service.Address, service.Port) == (instance.host, instance.port)


def only(instance: Instance) -> list[tuple[str, str]]:
    """The parameters that make /v1/health/service tell of this id alone, where it can be quoted."""
    if '"' in instance.id or "\\" in instance.id:
        return []
    return [("filter", f'Service.ID == "{instance.id}"')]


def nodes_of(body: bytes, instance: Instance) -> list[str]:
    """The nodes on which a /v1/health/service answer has `instance`, at its own address."""
    try:
        entries = _ALL.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"not an answer of /v1/health/service: {error}") from error
    return [
        entry.Node.Node
        for entry in entries
        if instance.id == entry.Service.ID
        and (entry.Service.Address, entry.Service.Port) == (instance.host, instance.port)
    ]


def index_after(sent: int, answered: str | None) -> int:
    """
    The index to send next, 0 for a query that does not block.

    "Reset the index if it goes backwards", "sanity check that the index is greater than zero"
    (Consul, blocking queries).  Compared as numbers: as texts "9" comes after "10".
    """
    if answered is None or not answered.isascii() or not answered.isdigit():
        raise Malformed(f"X-Consul-Index: {answered!r} is not an index")
    index = max(int(answered), 1)
    return 0 if index < sent else index


def seconds_behind(headers: Mapping[str, str]) -> float:
    """How far behind the leader the answering server may be; infinite without a leader."""
    if headers.get("X-Consul-KnownLeader", "true") == "false":
        return float("inf")
    try:
        return int(headers.get("X-Consul-LastContact", "0")) / 1000.0
    except ValueError as error:
        raise Malformed(f"X-Consul-LastContact: {error}") from error


def check_id(instance: Instance) -> str:
    """The id Consul itself gives to a service's only check."""
    return f"service:{instance.id}"


def check_definition(instance: Instance, check: Check) -> dict[str, Any]:
    """
    The check as /v1/agent/service/register takes it, spelt as all versions of Consul do.

    It starts as passing: an instance registers once it serves, and the first probe comes within
    one interval.
    """
    address = f"[{instance.host}]" if ":" in instance.host else instance.host
    definition: dict[str, Any] = {
        "CheckID": check_id(instance),
        "Name": f"Service '{instance.service}' check",
        "Status": "passing",
    }
    if check.kind == "ttl":
        definition["TTL"] = duration(check.ttl)
    else:
        definition["GRPC" if check.kind == "grpc" else "TCP"] = f"{address}:{instance.port}"
        definition["Interval"] = duration(check.interval)
        definition["Timeout"] = duration(check.timeout)
    if check.deregister_after:
        definition["DeregisterCriticalServiceAfter"] = duration(check.deregister_after)
    return definition


def duration(seconds: float) -> str:
    """Seconds as Go reads a duration."""
    return f"{round(seconds * 1000)}ms"
