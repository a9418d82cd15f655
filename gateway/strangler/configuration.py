"""
The strangler as a file, JSON; it is taken whole or refused whole, by the path of what is wrong.

    {"legacy": {"shop": {"url": "http://127.0.0.1:8900", "timeout": "2s"}},
     "servedBy": "x-served-by",
     "routes": [
       {"name": "products", "legacy": "shop",
        "match": ["GET /v1/products", "GET /v1/products/{product_id}"],
        "key": "header:x-customer-id",
        "ramp": [{"percent": 1, "dwell": "600s"}, {"percent": 10, "dwell": "3600s"},
                 {"percent": 100}],
        "shadow": {"percent": 20, "timeout": "0.5s", "ignore": ["/products/*/available"]},
        "abort": {"window": "60s", "minimumCalls": 20, "errorRate": 0.05}},
       {"name": "reviews", "legacy": "shop", "match": ["GET /v1/products/{product_id}/reviews"]}]}

`percent` stands where `ramp` would for what somebody moves by hand.  A route with neither stays
with the old service, and so does any whose path no gRPC service has.  A system's `policy` is a
service config, as in mesh.PolicyFile.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from gateway.rule import RuleError, parse
from gateway.strangler.abort import Abort
from gateway.strangler.comparing import pointer
from gateway.strangler.key import Key
from gateway.strangler.plan import Step, rising
from gateway.strangler.route import Configuration, Match, Route, Shadow, System
from mesh.errors import PolicyError
from mesh.policy.section import SECONDS, Field, Section, convert, short
from mesh.policy.service_config import load as load_policy

# Rows of shared memory are as many.
MOST_ROUTES = 64
SYSTEM = Section(
    System,
    Field("url", "url", str, required=True),
    Field("timeout", "timeout", SECONDS),
    Field("connections", "connections", int),
    Field("answer_bytes", "answerBytes", int),
)
STEP = Section(
    Step, Field("percent", "percent", float, required=True), Field("dwell", "dwell", SECONDS)
)
SHADOW = Section(
    Shadow,
    Field("percent", "percent", float),
    Field("timeout", "timeout", SECONDS),
    Field("limit", "limit", int),
    Field("empty_is_absent", "emptyIsAbsent", bool),
    Field("samples", "samples", int),
)
ABORT = Section(
    Abort,
    Field("window", "window", SECONDS),
    Field("minimum_calls", "minimumCalls", int),
    Field("error_rate", "errorRate", float | None),
    Field("mismatch_rate", "mismatchRate", float | None),
    Field("slow", "slow", SECONDS),
    Field("slow_rate", "slowRate", float),
    Field("back", "toStepBefore", bool),
)
_NAME = re.compile(r"[0-9A-Za-z._-]{1,64}")
_METHOD = re.compile(r"[A-Z]{1,20}")
_HEADER = re.compile(r"[0-9A-Za-z-]{1,64}")


class _Route(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """A route before its sections are looked at."""

    name: str
    legacy: str
    match: list[str]
    key: str = ""
    salt: str | None = None
    percent: float | None = None
    ramp: list[dict[str, Any]] | None = None
    shadow: dict[str, Any] | None = None
    abort: dict[str, Any] | None = None


class _Document(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The file before its sections are looked at."""

    legacy: dict[str, dict[str, Any]] = {}
    routes: list[_Route] = []
    served_by: str = ""


def load(text: str | bytes) -> Configuration:
    """What the file spells; PolicyError says what is wrong, and where."""
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        shown = short(text if isinstance(text, str) else text.decode("utf-8", "replace"))
        raise PolicyError("$", shown, f"is not JSON: {error}") from None
    document = convert(raw, _Document, "$")
    if document.served_by and not _HEADER.fullmatch(document.served_by):
        raise PolicyError("$.servedBy", document.served_by, "is not a header's name")
    if len(document.routes) > MOST_ROUTES:
        raise PolicyError("$.routes", len(document.routes), f"are more than {MOST_ROUTES}")
    systems = {
        _name(name, f"$.legacy.{name}"): _system(found, f"$.legacy.{name}")
        for name, found in document.legacy.items()
    }
    routes: list[Route] = []
    for place, found in enumerate(document.routes):
        path = f"$.routes[{place}]"
        route = _route(found, path)
        if route.legacy not in systems:
            raise PolicyError(f"{path}.legacy", route.legacy, "is not a name under $.legacy")
        _check_apart(route, routes, path)
        routes.append(route)
    return Configuration(
        systems=systems, routes=tuple(routes), served_by=document.served_by.lower()
    )


def read(path: Path) -> Configuration:
    """What a file spells; PolicyError names it too."""
    try:
        return load(path.read_bytes())
    except OSError as error:
        raise PolicyError("file", str(path), f"cannot be read: {error.strerror or error}") from None
    except PolicyError as error:
        raise PolicyError(f"{path}: {error.field}", error.value, error.why) from None


def _check_apart(route: Route, others: list[Route], path: str) -> None:
    """No name twice, and no request for two routes."""
    if any(route.name == other.name for other in others):
        raise PolicyError(f"{path}.name", route.name, "is another route's already")
    taken = {match.shape: str(match) for other in others for match in other.match}
    for place, match in enumerate(route.match):
        if match.shape in taken:
            raise PolicyError(
                f"{path}.match[{place}]", str(match), f"is {taken[match.shape]} of another route"
            )
        taken[match.shape] = str(match)


def _system(found: dict[str, Any], path: str) -> System:
    rest = {name: value for name, value in found.items() if name != "policy"}
    policy = None
    if "policy" in found:
        try:
            policy = load_policy(msgspec.json.encode(found["policy"]))
        except PolicyError as error:
            where = error.field.removeprefix("$")
            raise PolicyError(f"{path}.policy{where}", error.value, error.why) from None
    system: System = _section(SYSTEM, rest, path)
    return replace(system, policy=policy)


def _route(found: _Route, path: str) -> Route:
    _name(found.name, f"{path}.name")
    if not found.match:
        raise PolicyError(f"{path}.match", [], "names no path")
    if found.percent is not None and found.ramp is not None:
        raise PolicyError(f"{path}.percent", found.percent, "stands beside a ramp: choose one")
    steps: list[Any] = found.ramp or []
    where = f"{path}.ramp"
    plan = [_section(STEP, step, f"{where}[{place}]") for place, step in enumerate(steps)]
    if found.percent is not None:
        plan = [_section(STEP, {"percent": found.percent}, path)]
    return Route(
        name=found.name,
        legacy=found.legacy,
        match=tuple(_match(text, f"{path}.match[{i}]") for i, text in enumerate(found.match)),
        key=Key.parse(found.key, f"{path}.key") if found.key else None,
        salt=found.name if found.salt is None else found.salt,
        plan=tuple(rising(plan, where)),
        shadow=_shadow(found.shadow, f"{path}.shadow") if found.shadow is not None else None,
        abort=_section(ABORT, found.abort, f"{path}.abort") if found.abort is not None else None,
    )


def _match(text: str, path: str) -> Match:
    method, _, template = text.partition(" ")
    if not _METHOD.fullmatch(method):
        raise PolicyError(path, text, 'is not a method and a path, like "GET /v1/products"')
    try:
        return Match(http_method=method, template=parse(template))
    except RuleError as error:
        raise PolicyError(path, text, f"has no path that can be read: {error}") from None


def _shadow(found: dict[str, Any], path: str) -> Shadow:
    ignore = convert(found.get("ignore", []), list[str], f"{path}.ignore")
    rest = {name: value for name, value in found.items() if name != "ignore"}
    shadow: Shadow = _section(SHADOW, rest, path)
    pointers = tuple(pointer(text, f"{path}.ignore[{i}]") for i, text in enumerate(ignore))
    return replace(shadow, ignore=pointers)


def _section(section: Section, raw: Any, path: str) -> Any:
    return section.read(convert(raw, section.shape, path), path)


def _name(name: str, path: str) -> str:
    if not _NAME.fullmatch(name):
        raise PolicyError(path, name, "is not a name of letters, digits, '.', '_' and '-'")
    return name
