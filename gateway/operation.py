"""
One rpc's route as an OpenAPI operation: its parameters, its body, its answers.

What a path binds is no part of the body, although it may stand there too if it says the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway import responses, wellknown
from gateway.mask import FIELD_MASK, mask_field
from gateway.plan import is_map
from gateway.rest import Served
from gateway.rule import Variable
from gateway.schema import Schemas, changed_never, needed
from gateway.values import Schema, Use

# How deep messages are unfolded into query parameters.
DEPTH = 3
_PATH = r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*"


@dataclass(frozen=True, slots=True)
class Described:
    """An operation, and what it takes to link it with others."""

    shown: dict[str, Any]
    tag: str
    about: str
    names: tuple[str, ...]
    reply: Descriptor | None

    def link(self, others: Iterable[Described]) -> None:
        """Say whose paths the names in this one's reply lead to."""
        if self.reply is None:
            return
        fields = self.reply.fields_by_name
        links = {
            other.shown["operationId"]: {
                "operationId": other.shown["operationId"],
                "parameters": {
                    name: f"$response.body#/{fields[name].json_name}" for name in other.names
                },
            }
            for other in others
            if other is not self and other.names and all(name in fields for name in other.names)
        }
        if links:
            self.shown["responses"]["200"]["links"] = links


def operation(
    entry: Served, names: list[str], schemas: Schemas, used: set[str], *, guarded: bool
) -> Described:
    """The operation; `used` keeps operationIds apart."""
    route, rpc = entry.route, entry.route.rpc
    service, _, method = rpc.name.rpartition(".")
    tag = service.rpartition(".")[2]
    identity = f"{tag}_{method}"
    while identity in used:
        identity += "_"
    used.add(identity)
    comment = rpc.contract.comment(rpc.name)
    socket = rpc.client_streaming and rpc.server_streaming
    body = bool(route.body) and not socket
    errors = responses.errors(body=body, keyed=rpc.keyed, guarded=guarded)
    shown: dict[str, Any] = {
        "operationId": identity,
        "tags": [tag],
        "summary": " ".join(comment.split("\n\n", 1)[0].split()).split(". ")[0].rstrip("."),
        "description": comment,
        "parameters": [*_path_parameters(entry, names, schemas), *_query(entry, schemas)],
        "responses": {
            "200": {**_reply(entry, schemas), "headers": dict(responses.NAMED)},
            **errors,
        },
    }
    if socket:
        del shown["responses"]["200"]
        shown["x-websocket"] = True
        shown["responses"] |= {
            "101": {
                "description": "One JSON message a text frame, each way.",
                "headers": dict(responses.NAMED),
            },
            "426": {"$ref": "#/components/responses/Error426"},
        }
    elif body:
        shown["requestBody"] = _body(entry, schemas)
    if rpc.keyed:
        shown["parameters"].append(KEY)
        shown["responses"]["200"]["headers"]["Idempotent-Replayed"] = REPLAYED
    about = rpc.contract.comment(service)
    plain = not (socket or rpc.server_streaming or route.response_body or entry.raw)
    return Described(shown, tag, about, tuple(names), rpc.output if plain else None)


KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "Makes asking twice the same as asking once. It is the same as `request_id`:"
    " give one of the two.",
    "schema": {
        "type": "string",
        "minLength": 1,
        "maxLength": 255,
        "pattern": r"^[!-~]([ -~]*[!-~])?$",
    },
}
REPLAYED = {
    "description": "true: this is the stored reply of the first request with this key.",
    "schema": {"type": "string", "enum": ["true"]},
}


def _path_parameters(entry: Served, names: list[str], schemas: Schemas) -> Iterator[Any]:
    rpc = entry.route.rpc
    variables = [s for s in entry.template.segments if isinstance(s, Variable)]
    fields = iter(zip(entry.binder.path_fields(), variables, strict=True))
    for name in names:
        schema: Schema = {"type": "string"}
        field, variable = next(fields, (None, None))
        if field is not None:
            schema = schemas.of_field(rpc.contract, field, Use.TEXT)
            schema.pop("readOnly", None)
        described = schema.pop("description", "")
        if schema.get("type") == "string" and not (variable and variable.multi):
            schema["minLength"] = max(1, schema.get("minLength", 0))
        yield {
            "name": name,
            "in": "path",
            "required": True,
            "description": described,
            "schema": schema,
        }


def _query(entry: Served, schemas: Schemas) -> Iterator[Any]:
    route = entry.route
    if route.body == "*" or route.rpc.client_streaming:
        return
    bound = {capture.path for capture in route.template.captures()}
    for path, field in _flat(route.rpc.input, (), DEPTH):
        if path in bound or path[0] == route.body:
            continue
        schema = schemas.of_field(route.rpc.contract, field, Use.TEXT)
        described = schema.pop("description", "")
        schema.pop("readOnly", None)
        if field.message_type is not None and field.message_type.full_name == FIELD_MASK:
            schema["pattern"] = _mask_pattern(entry)
        parameter = {
            "name": ".".join(path),
            "in": "query",
            "description": described,
            "schema": schema,
        }
        if len(path) == 1 and needed(field):
            parameter["required"] = True
        if is_map(field):
            parameter |= {"style": "deepObject", "explode": True}
        yield parameter


def _mask_pattern(entry: Served) -> str:
    """What a mask may name: of a resource that is patched, the fields that can be changed."""
    route = entry.route
    one = _PATH
    body = route.rpc.input.fields_by_name[route.body] if route.body not in ("", "*") else None
    if body is not None and body.message_type is not None and mask_field(route.rpc.input):
        fields = [f for f in body.message_type.fields if not changed_never(f)]
        deep = rf"(?:\.{_PATH})?"
        one = "|".join(
            name + (deep if f.message_type is not None and not f.is_repeated else "")
            for f in fields
            for name in dict.fromkeys((f.name, f.json_name))
        )
    return rf"^(?:\*|(?:{one})(?:,(?:{one}))*)?$"


def _flat(message: Descriptor, above: tuple[str, ...], depth: int) -> Iterator[Any]:
    for field in message.fields:
        path = (*above, field.name)
        inner = field.message_type
        if (
            inner is None
            or is_map(field)
            or inner.full_name in wellknown.TEXT
            or inner.full_name in wellknown.WRAPPERS
        ):
            yield path, field
        elif not field.is_repeated and depth > 1 and inner.full_name not in wellknown.FREE:
            yield from _flat(inner, path, depth - 1)


def _body(entry: Served, schemas: Schemas) -> dict[str, Any]:
    route, rpc = entry.route, entry.route.rpc
    if entry.binder.raw:
        return {"content": {"*/*": {"schema": {}}}, "required": False}
    captures = [capture.path for capture in route.template.captures()]
    if rpc.client_streaming:
        schema = schemas.of(rpc.contract, rpc.input, Use.INPUT)
        content = {
            "application/json": {"schema": {"type": "array", "items": schema}},
            "application/x-ndjson": {"schema": {"type": "string"}},
        }
        return {"content": content, "required": False}  # nothing is a stream of nothing
    if route.body == "*":
        schema = schemas.whole(rpc.contract, rpc.input, Use.INPUT)
        _without(schema, rpc.input, [path[0] for path in captures if len(path) == 1])
        return _json(schema, required=bool(schema.get("required")))
    field: Any = rpc.input.fields_by_name[route.body]
    inside = [path[1] for path in captures if path[0] == route.body and len(path) == 2]
    if field.message_type is None or field.is_repeated:
        schema = schemas.of_field(rpc.contract, field, Use.INPUT)
    elif route.http_method == "PATCH" and mask_field(rpc.input):
        schema = schemas.patched(rpc.contract, field.message_type, frozenset(inside))
    elif inside:
        schema = schemas.whole(rpc.contract, field.message_type, Use.INPUT)
        _without(schema, field.message_type, inside)
    else:
        schema = schemas.of(rpc.contract, field.message_type, Use.INPUT)
    schema.pop("readOnly", None)
    return _json(schema, required=True)


def _without(schema: Schema, message: Descriptor, names: Iterable[str]) -> None:
    """Leave out what the path says."""
    gone = {message.fields_by_name[name].json_name for name in names}
    for name in gone:
        schema["properties"].pop(name, None)
    left = [name for name in schema.pop("required", ()) if name not in gone]
    if left:
        schema["required"] = left


def _json(schema: Schema, *, required: bool) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}, "required": required}


def _reply(entry: Served, schemas: Schemas) -> dict[str, Any]:
    rpc, part = entry.route.rpc, entry.route.response_body
    if entry.raw:
        return {"description": "The content itself.", "content": {"*/*": {"schema": {}}}}
    schema = (
        schemas.of_field(rpc.contract, rpc.output.fields_by_name[part], Use.REPLY)
        if part
        else schemas.of(rpc.contract, rpc.output, Use.REPLY)
    )
    if not rpc.server_streaming:
        return {"description": "OK", "content": {"application/json": {"schema": schema}}}
    failed = {
        "type": "object",
        "description": "Why the stream ended; the last element.",
        "properties": {"error": {"$ref": f"#/components/schemas/{responses.STATUS}"}},
        "required": ["error"],
    }
    content = {
        "application/json": {"schema": {"type": "array", "items": {"anyOf": [schema, failed]}}},
        "application/x-ndjson": {"schema": {"type": "string"}},
        "text/event-stream": {"schema": {"type": "string"}},
    }
    return {"description": "The stream, in the form that Accept names.", "content": content}
