"""The import table: who may import whom, and what stays out of the pure parts."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from fnmatch import fnmatchcase

import pytest

from tests.architecture.source import OURS, ROOT, imports, sources, within

# Below everything: plain values that every part of the mesh may speak in.
VALUES = (
    "mesh.errors",
    "mesh.details",
    "mesh.call",
    "mesh.inbound",
    "mesh.telemetry.events",
    "discovery.model",
)
PURE = (*VALUES, "mesh.flow", "mesh.column", "mesh.policy", "mesh.balance")
# What would let a clock, a socket or chance into code that is tested without them.
EFFECTS = ("grpc", "asyncio", "time", "datetime", "threading", "socket", "select", "subprocess")
EVENTS = ("mesh.errors", "mesh.policy.backoff", "mesh.store", "mesh.events")
REGISTRY = ("discovery.model", "discovery.registry", "discovery.errors")
# What stands in services/ itself is for every service.
SHARED = tuple(
    name
    for name, path in sources().items()
    if path.parent == ROOT / "services" and path.stem != "__init__"
)
OUTSIDE_DOMAINS = ("grpc", "google", "sqlite3", "msgspec", "aiohttp", "asyncio")
SERVICES = sorted(
    {name.split(".")[1] for name in sources() if fnmatchcase(name, "services.*.*")} - {"edge"}
)


@dataclass(frozen=True)
class Rule:
    """`who` may import these packages of ours, and never these of others."""

    who: str
    may: tuple[str, ...]
    never: tuple[str, ...] = ()


# The first row that fits a module decides.  `discovery` alone means the names it exports.
TABLE = (
    Rule("discovery", ("discovery.*",), ("consul.base",)),
    Rule("mesh.telemetry.events", (), EFFECTS),
    Rule("mesh.errors", VALUES, EFFECTS),
    Rule("mesh.call", VALUES, EFFECTS),
    Rule("mesh.inbound", VALUES, ("grpc", "asyncio", "time")),
    Rule("mesh.flow", PURE, EFFECTS),
    Rule("mesh.column", PURE, EFFECTS),
    Rule("mesh.policy", PURE, EFFECTS),
    Rule("mesh.balance", PURE, EFFECTS),
    Rule("mesh.drive", (*VALUES, "mesh.flow", "mesh.drive"), ("grpc",)),
    Rule("mesh.store", ("mesh.errors", "mesh.store"), ("grpc",)),
    Rule("mesh.saga", ("mesh.errors", "mesh.policy.backoff", "mesh.store", "mesh.saga"), ("grpc",)),
    # The one adapter of the outbox to the wire.
    Rule("mesh.events.feed", (*EVENTS, *VALUES, "mesh.client", "mesh.server", "mesh", "proxyless")),
    Rule("mesh.events", EVENTS, ("grpc",)),
    # What moves the bytes, and what only knows them.
    Rule(
        "mesh.transport.subchannel", ("mesh.policy.backoff", "mesh.transport"), ("grpc", "google")
    ),
    Rule("mesh.transport.dialing", (), ("grpc", "google")),
    Rule("mesh.transport", ("mesh.errors", "mesh.transport"), (*EFFECTS, "google")),
    Rule("mesh.testing", ("mesh.*", "discovery.*")),
    Rule("mesh.xds", ("mesh.*",)),
    Rule("mesh", ("mesh.*", "discovery", *REGISTRY, "proxyless")),
    Rule("gateway", ("gateway.*", "mesh.*", "discovery", *REGISTRY, "proxyless", "buf")),
    Rule("services.edge", ("services.edge", "gateway.*", "mesh.*", "discovery", "shop", *SHARED)),
    Rule("services.orders.money", (), OUTSIDE_DOMAINS),
    *(
        rule
        for name in SERVICES
        for rule in (
            Rule(f"services.{name}.domain", (f"services.{name}.money",), OUTSIDE_DOMAINS),
            Rule(
                f"services.{name}",
                (f"services.{name}", *SHARED, "mesh.*", "discovery", "shop", "proxyless"),
            ),
        )
    ),
    Rule("services", (*SHARED, "mesh.*", "discovery", "shop", "proxyless")),
    Rule("scripts", (*(f"{name}.*" for name in OURS if name != "tests"),)),
    Rule("tests", (*(f"{name}.*" for name in OURS),)),
)


def rule_for(module: str) -> Rule:
    return next(rule for rule in TABLE if within(module, rule.who))


def may(rule: Rule, target: str) -> bool:
    """A package in the table stands for all inside it; `mesh` and `discovery` for themselves."""
    for allowed in rule.may:
        if allowed in ("mesh", "discovery"):
            if target == allowed:
                return True
        elif within(target, allowed.removesuffix(".*")):
            return True
    return False


def broken(module: str) -> list[str]:
    rule = rule_for(module)
    found = []
    for each in imports(sources()[module]):
        if each.target.split(".")[0] in OURS:
            if not may(rule, each.target):
                allowed = ", ".join(rule.may) or "nothing of ours"
                found.append(f"{each.place} imports {each.target}; {rule.who} may import {allowed}")
        elif any(within(each.target, name) for name in rule.never):
            found.append(f"{each.place} imports {each.target}; {rule.who} never does")
    return found


@pytest.mark.parametrize("package", [rule.who for rule in TABLE])
def test_imports_obey_the_table(package: str) -> None:
    modules = [name for name in sources() if rule_for(name).who == package]

    found = [line for name in modules for line in broken(name)]

    assert not found, "\n" + "\n".join(found)


def test_domains_import_the_standard_library_alone() -> None:
    found = [
        f"{each.place} imports {each.target}"
        for name, path in sources().items()
        if fnmatchcase(name, "services.*.domain")
        for each in imports(path)
        if each.target.split(".")[0] not in (*sys.stdlib_module_names, "services")
    ]

    assert not found, "\n" + "\n".join(found)
