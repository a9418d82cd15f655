"""
A policy as a file: gRPC's service config in JSON, with our sections beside gRPC's own.

    {"methodConfig": [{"name": [{}], "timeout": "2s", "retryPolicy": {...}, "bulkhead": {...}},
                      {"name": [{"service": "shop.orders.v1.OrderService", "method": "GetOrder"}],
                       "timeout": "0.5s", "hedgingPolicy": {...}}],
     "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
     "loadBalancingConfig": [{"least_request_experimental": {"choiceCount": 2}}]}

    load(text) -> Policy          dump(policy) -> text          load(dump(policy)) == policy

A file is taken whole or refused whole, by the path and value of what is wrong with it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from mesh.errors import PolicyError
from mesh.policy import sections
from mesh.policy.config import Policy, Rules
from mesh.policy.section import SECONDS, Field, Section, convert, short

# How a method's rules are spelled; the policy's own ones under the name {}.
RULES = (
    Field("timeout", "timeout", SECONDS),
    Field("wait_for_ready", "waitForReady", bool),
    Field("retry", "retryPolicy", sections.RETRY),
    Field("hedge", "hedgingPolicy", sections.HEDGE),
    Field("attempt_timeout", "attemptTimeout", SECONDS),
    Field("reserve", "deadlineReserve", SECONDS),
    Field("floor", "deadlineFloor", SECONDS),
    Field("breaker", "circuitBreaker", sections.BREAKER),
    Field("bulkhead", "bulkhead", sections.BULKHEAD),
    Field("rate_limit", "rateLimit", sections.RATE_LIMIT),
    Field("throttle", "clientThrottle", sections.CLIENT_THROTTLE),
    Field("concurrency", "adaptiveLimit", sections.ADAPTIVE_LIMIT),
    Field("fallback", "fallback", sections.FALLBACK),
    Field("fault", "faultInjection", sections.FAULT),
)
METHOD = Section(Rules, *RULES)
TARGET = {
    "subset": sections.SUBSET,
    "zones": sections.ZONES,
    "slowStart": sections.SLOW_START,
    "split": sections.SPLIT,
}
TARGET_FIELD = {"slowStart": "slow_start"}

_WHERE = {
    "policy.retry_tokens": "$.retryThrottling.maxTokens",
    "policy.panic_threshold": "$.panicThreshold",
}


class Name(msgspec.Struct, forbid_unknown_fields=True):
    """What a methodConfig is for; neither is everything."""

    service: str = ""
    method: str = ""


class Throttling(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """gRPC's budget for retries."""

    max_tokens: int
    token_ratio: float


class HealthCheck(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """Whose health clients watch; "" is the server's as a whole."""

    service_name: str = ""


class Document(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    """The file, before each section is looked at."""

    method_config: list[dict[str, Any]] = []
    retry_throttling: Throttling | None = None
    load_balancing_config: list[dict[str, Any]] = []
    health_check_config: HealthCheck | None = None
    panic_threshold: float | None = None
    subset: dict[str, Any] | None = None
    zones: dict[str, Any] | None = None
    slow_start: dict[str, Any] | None = None
    split: dict[str, Any] | None = None


def load(text: str | bytes) -> Policy:
    """The policy that a service config spells; PolicyError says what is wrong, and where."""
    try:
        raw = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise PolicyError("$", short(text), f"is not JSON: {error}") from None
    document = convert(raw, Document, "$")
    ratio = document.retry_throttling.token_ratio if document.retry_throttling else None
    if ratio is not None and ratio <= 0:
        raise PolicyError("$.retryThrottling.tokenRatio", ratio, "is not above 0")
    given: dict[str, Any] = {"methods": {}}
    seen: set[str] = set()
    for place, config in enumerate(document.method_config):
        path = f"$.methodConfig[{place}]"
        names, rules = _method(dict(config), path, ratio)
        for name in names:
            if name in seen:
                raise PolicyError(f"{path}.name", name or "{}", "has a methodConfig already")
            seen.add(name)
            if name:
                given["methods"][name] = rules
            else:
                given.update({entry.name: getattr(rules, entry.name) for entry in RULES})
    if document.retry_throttling is not None:
        given["retry_tokens"] = document.retry_throttling.max_tokens
    if document.health_check_config is not None:
        given["health_check"] = document.health_check_config.service_name
    if document.panic_threshold is not None:
        given["panic_threshold"] = document.panic_threshold
    given.update(_balance(document.load_balancing_config, "$.loadBalancingConfig"))
    for key, section in TARGET.items():
        name = TARGET_FIELD.get(key, key)
        value = getattr(document, name)
        if value is not None:
            given[name] = _section(section, value, f"$.{key}")
    try:
        return Policy(**given)
    except PolicyError as error:
        raise PolicyError(_WHERE.get(error.field, "$"), error.value, error.why) from None


def dump(policy: Policy) -> str:
    """The service config that spells `policy`; what only code can say is refused by name."""
    written: dict[str, Any] = {}
    every = [policy, *policy.methods.values()]
    rules = [rule for each in every for rule in (each.retry, each.hedge) if rule is not None]
    ratio = rules[0].budget if rules else 0.1
    configs = [{"name": [{}], **_write_rules(policy, ratio)}]
    for name, own in policy.methods.items():
        service, _, method = name.partition("/")
        names = {"service": service, "method": method} if method else {"service": service}
        configs.append({"name": [names], **_write_rules(own, ratio)})
    written["methodConfig"] = configs
    written["retryThrottling"] = {"maxTokens": policy.retry_tokens, "tokenRatio": ratio}
    written["loadBalancingConfig"] = _write_balance(policy)
    if policy.health_check is not None:
        written["healthCheckConfig"] = {"serviceName": policy.health_check}
    written["panicThreshold"] = policy.panic_threshold
    for key, section in TARGET.items():
        rule = getattr(policy, TARGET_FIELD.get(key, key))
        if rule is not None:
            written[key] = section.write(rule)
    return msgspec.json.format(msgspec.json.encode(written), indent=2).decode()


def _method(config: dict[str, Any], path: str, ratio: float | None) -> tuple[list[str], Rules]:
    names = convert(config.pop("name", []), list[Name], f"{path}.name")
    if not names:
        raise PolicyError(f"{path}.name", [], "names no method")
    for key in ("retryPolicy", "hedgingPolicy"):
        if ratio is not None and isinstance(config.get(key), dict):
            config[key] = {"tokenRatio": ratio, **config[key]}
    keys = []
    for place, name in enumerate(names):
        if name.method and not name.service:
            raise PolicyError(f"{path}.name[{place}].method", name.method, "has no service")
        keys.append(f"{name.service}/{name.method}" if name.method else name.service)
    return keys, _section(METHOD, config, path)


def _balance(configs: list[dict[str, Any]], path: str) -> dict[str, Any]:
    """The first entry that we know: "the first policy in the list that it supports" - gRPC."""
    for place, config in enumerate(configs):
        if len(config) != 1:
            raise PolicyError(f"{path}[{place}]", config, "does not hold exactly one policy")
        name, body = next(iter(config.items()))
        here = f"{path}[{place}].{name}"
        if not isinstance(body, dict):
            raise PolicyError(here, body, "is not an object")
        if name == sections.OUTLIER_DETECTION:
            body = dict(body)
            child = convert(body.pop("childPolicy", []), list[dict[str, Any]], here)
            outlier = _section(sections.OUTLIER, body, here)
            return {"outlier": outlier, **_balance(child, f"{here}.childPolicy")}
        if name in sections.BALANCES:
            return {"balance": _section(sections.BALANCES[name], body, here)}
    if configs:
        raise PolicyError(path, [next(iter(config), "") for config in configs], "are all unknown")
    return {}


def _write_balance(policy: Policy) -> list[dict[str, Any]]:
    written: list[dict[str, Any]] = []
    for name, section in sections.BALANCES.items():
        if type(policy.balance) is section.rule:
            written.append({name: section.write(policy.balance)})
    if not written:
        raise PolicyError("policy.balance", policy.balance, "cannot be written as JSON")
    if policy.outlier is not None:
        body = sections.OUTLIER.write(policy.outlier)
        written = [{sections.OUTLIER_DETECTION: {**body, "childPolicy": written}}]
    return written


def _write_rules(rules: Rules, ratio: float) -> dict[str, Any]:
    if rules.fallback is not None and rules.fallback.value is not None:
        raise PolicyError("fallback.value", rules.fallback.value, "cannot be written as JSON")
    written = METHOD.write(rules)
    for key, rule in (("retryPolicy", rules.retry), ("hedgingPolicy", rules.hedge)):
        if rule is not None:
            written[key].pop("tokenRatio", None)
            if rule.budget != ratio:
                written[key]["tokenRatio"] = rule.budget
    return written


def _section(section: Section, raw: Any, path: str) -> Any:
    return section.read(convert(raw, section.shape, path), path)
