"""
From google.api.http to routes: each binding checked against the messages it fills.

A route that cannot work (a field that does not exist, a body that is no field) is a RouteError
naming the method, when the descriptors are loaded and not when the first request comes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from google.api import http_pb2
from google.protobuf.descriptor import Descriptor

from gateway import wellknown
from gateway.contract import Rpc
from gateway.plan import is_map
from gateway.rule import RuleError, Template, Variable, parse

METHODS = ("get", "put", "post", "delete", "patch")
HTTP_BODY = "google.api.HttpBody"


class RouteError(ValueError):
    """A google.api.http annotation that cannot be served."""

    def __init__(self, rpc: Rpc, why: str) -> None:
        super().__init__(f"{rpc.name}: {why}")


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """One HTTP method and path of one rpc, which the registry's service `target` serves."""

    target: str
    http_method: str
    template: Template
    rpc: Rpc
    body: str = ""
    response_body: str = ""

    @property
    def name(self) -> str:
        return self.rpc.name


def routes(rpc: Rpc, target: str) -> Iterator[Route]:
    """All routes of `rpc`, or RouteError."""
    for number, rule in enumerate(rpc.rules()):
        if number and rule.additional_bindings:
            raise RouteError(rpc, "an additional binding has additional bindings of its own")
        yield _route(rpc, target, rule)


def _route(rpc: Rpc, target: str, rule: http_pb2.HttpRule) -> Route:
    kind = rule.WhichOneof("pattern")
    if kind is None:
        raise RouteError(rpc, "the binding has no path")
    method, path = (
        (rule.custom.kind, rule.custom.path)
        if kind == "custom"
        else (kind.upper(), getattr(rule, kind))
    )
    try:
        template = parse(path)
    except RuleError as error:
        raise RouteError(rpc, str(error)) from error
    for segment in template.segments:
        if isinstance(segment, Variable):
            _check_variable(rpc, segment)
    for what, name, message in (
        ("body", rule.body, rpc.input),
        ("response_body", rule.response_body, rpc.output),
    ):
        if name and not (what == "body" and name == "*") and name not in message.fields_by_name:
            raise RouteError(rpc, f"{what}: {message.full_name} has no field {name!r}")
    if rpc.client_streaming and rule.body != "*" and not rpc.server_streaming:
        raise RouteError(rpc, 'a stream of requests is bound with body: "*"')
    return Route(target, method, template, rpc, rule.body, rule.response_body)


def _check_variable(rpc: Rpc, variable: Variable) -> None:
    fields = resolve(rpc.input, variable.path)
    name = ".".join(variable.path)
    if fields is None:
        raise RouteError(rpc, f"{rpc.input.full_name} has no field {name!r}")
    for field in fields:
        if field.is_repeated:
            raise RouteError(rpc, f"{name!r} is repeated: it cannot come from a path")
    last = fields[-1].message_type
    if last is not None and not (
        last.full_name in wellknown.TEXT or last.full_name in wellknown.WRAPPERS
    ):
        raise RouteError(rpc, f"{name!r} is a message: it cannot come from a path")


def resolve(message: Descriptor, path: tuple[str, ...]) -> list[Any] | None:
    """The fields along `path`, by their names in the .proto; None when there are none."""
    fields: list[Any] = []
    at: Descriptor | None = message
    for name in path:
        field = at.fields_by_name.get(name) if at is not None else None
        if field is None:
            return None
        fields.append(field)
        at = None if is_map(field) else field.message_type
    return fields
