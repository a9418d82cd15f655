"""
OpenAPI 3.1 of everything that is served, from descriptors and the comments in the .proto files.

Two templates that differ only in their variables' names are one path there, with the names of the
first; fields that no body holds are query parameters, nested ones with dots.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from google.protobuf.descriptor import Descriptor

from gateway import wellknown
from gateway.catalog import Catalog, Entry
from gateway.compose import PageRoute
from gateway.jsontext import dumps
from gateway.mask import mask_field
from gateway.plan import is_map
from gateway.rest import Served
from gateway.router import ANY_METHOD
from gateway.rule import Literal, Variable
from gateway.schema import Schema, Schemas

METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"})
# How deep messages are unfolded into query parameters.
DEPTH = 3
STATUS = "google.rpc.Status"
STATUS_SCHEMA: Schema = {
    "type": "object",
    "description": "What went wrong; `details` hold google.rpc.ErrorInfo and its like.",
    "properties": {
        "code": {"type": "integer", "format": "int32"},
        "message": {"type": "string"},
        "details": {"type": "array", "items": {"type": "object", "additionalProperties": True}},
    },
    "required": ["code", "message", "details"],
}


@lru_cache(maxsize=2)
def _document(entries: tuple[Entry, ...]) -> bytes:
    schemas = Schemas()
    schemas.components[STATUS] = STATUS_SCHEMA
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, tuple[str, list[str]]] = {}
    used: set[str] = set()
    for entry in entries:
        if entry.http_method == ANY_METHOD or entry.http_method not in METHODS:
            continue  # OpenAPI has no word for it
        path, names = _path(entry, shapes)
        operation = (
            _page(entry, names)
            if isinstance(entry, PageRoute)
            else _operation(entry, names, schemas, used)
            if isinstance(entry, Served)
            else {}
        )
        paths.setdefault(path, {})[entry.http_method.lower()] = operation
    return dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Proxyless gateway",
                "version": "1",
                "description": "REST for the gRPC services of this mesh.",
            },
            "paths": dict(sorted(paths.items())),
            "components": {"schemas": dict(sorted(schemas.components.items()))},
        }
    )


def document(catalog: Catalog) -> bytes:
    """The document, made once for each catalog."""
    return _document(tuple(catalog.router.entries))


def _path(entry: Entry, shapes: dict[str, tuple[str, list[str]]]) -> tuple[str, list[str]]:
    """The path as OpenAPI writes it, and its variables' names; one for all of the same shape."""
    parts, names = [], []
    for index, segment in enumerate(entry.template.segments):
        if isinstance(segment, Literal):
            parts.append(segment.text)
            continue
        name = ".".join(segment.path) if isinstance(segment, Variable) else f"part{index}"
        parts.append(f"{{{name}}}")
        names.append(name)
    verb = f":{entry.template.verb}" if entry.template.verb else ""
    shape = "/".join("{}" if part.startswith("{") else part for part in parts) + verb
    return shapes.setdefault(shape, ("/" + "/".join(parts) + verb, names))


def _page(entry: PageRoute, names: list[str]) -> dict[str, Any]:
    string = {"schema": {"type": "string"}}
    query = [{"name": name, "in": "query", **string} for name in entry.query]
    return {
        "operationId": f"page_{entry.name.removeprefix('page ')}",
        "tags": ["pages"],
        "summary": summary_of(entry.comment),
        "description": entry.comment,
        "parameters": [
            *({"name": name, "in": "path", "required": True, **string} for name in names),
            *query,
        ],
        "responses": {
            "200": _content({"type": "object", "additionalProperties": True}, "The page."),
            "default": _error(),
        },
    }


def _operation(entry: Served, names: list[str], schemas: Schemas, used: set[str]) -> dict[str, Any]:
    route, rpc = entry.route, entry.route.rpc
    service, _, method = rpc.name.rpartition(".")
    identity = f"{service.rpartition('.')[2]}_{method}"
    while identity in used:
        identity += "_"
    used.add(identity)
    comment = rpc.contract.comment(rpc.name)
    operation: dict[str, Any] = {
        "operationId": identity,
        "tags": [service.rpartition(".")[2]],
        "summary": summary_of(comment),
        "description": comment,
        "parameters": [*_path_parameters(entry, names, schemas), *_query(entry, schemas)],
        "responses": {"200": _reply(entry, schemas), "default": _error()},
    }
    if rpc.client_streaming and rpc.server_streaming:
        operation["x-websocket"] = True
        operation["responses"] = {
            "101": {"description": "One JSON message a text frame, each way."},
            "426": {"description": "It must be opened as a WebSocket."},
            "default": _error(),
        }
    elif route.body:
        operation["requestBody"] = _body(entry, schemas)
    if rpc.keyed:
        operation["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Makes asking twice the same as asking once.",
                "schema": {"type": "string", "minLength": 1},
            }
        )
    return operation


def _path_parameters(entry: Served, names: list[str], schemas: Schemas) -> Iterator[Any]:
    rpc = entry.route.rpc
    fields = iter(entry.binder.path_fields())
    for name in names:
        field = next(fields, None)
        schema: Schema = {"type": "string"}
        if field is not None:
            schema = schemas.of_field(rpc.contract, field)
            schema.pop("readOnly", None)
        described = schema.pop("description", "")
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
        schema = schemas.of_field(route.rpc.contract, field)
        described = schema.pop("description", "")
        schema.pop("readOnly", None)
        parameter = {
            "name": ".".join(path),
            "in": "query",
            "description": described,
            "schema": schema,
        }
        if is_map(field):
            parameter |= {"style": "deepObject", "explode": True}
        yield parameter


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
        return {"content": {"*/*": {"schema": {}}}, "required": True}
    if route.body == "*":
        schema = schemas.of(rpc.contract, rpc.input)
        if rpc.client_streaming:
            content = {
                "application/json": {"schema": {"type": "array", "items": schema}},
                "application/x-ndjson": {"schema": {"type": "string"}},
            }
            return {"content": content, "required": True}
        bound = {".".join(capture.path) for capture in route.template.captures()}
        whole = schemas.whole(rpc.contract, rpc.input)
        required = [
            field.json_name
            for field in rpc.input.fields
            if field.json_name in whole.get("required", ()) and field.name not in bound
        ]
        whole.pop("required", None)
        schema = {**whole, "required": required} if required else whole
        return {"content": {"application/json": {"schema": schema}}, "required": bool(required)}
    field: Any = rpc.input.fields_by_name[route.body]
    schema = schemas.of_field(rpc.contract, field)
    schema.pop("readOnly", None)
    if route.http_method == "PATCH" and mask_field(rpc.input) and field.message_type:
        schema = schemas.whole(rpc.contract, field.message_type)
        schema.pop("required", None)  # what is left out is left as it is
    return {"content": {"application/json": {"schema": schema}}, "required": True}


def _reply(entry: Served, schemas: Schemas) -> dict[str, Any]:
    rpc, part = entry.route.rpc, entry.route.response_body
    if entry.raw:
        return {"description": "The content itself.", "content": {"*/*": {"schema": {}}}}
    schema = (
        schemas.of_field(rpc.contract, rpc.output.fields_by_name[part])
        if part
        else schemas.of(rpc.contract, rpc.output)
    )
    if not rpc.server_streaming:
        return _content(schema, "OK")
    content = {
        "application/json": {"schema": {"type": "array", "items": schema}},
        "application/x-ndjson": {"schema": {"type": "string"}},
        "text/event-stream": {"schema": {"type": "string"}},
    }
    return {"description": "The stream, in the form that Accept names.", "content": content}


def _content(schema: Schema, description: str) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _error() -> dict[str, Any]:
    ref = {"schema": {"$ref": f"#/components/schemas/{STATUS}"}}
    return {
        "description": "What went wrong.",
        "content": {
            "application/json": ref,
            "application/problem+json": {"schema": {"type": "object"}},
        },
    }


def comment_of(entry: Entry) -> str:
    """What the contract, or the page's own author, says of it."""
    if isinstance(entry, Served):
        return entry.route.rpc.contract.comment(entry.route.rpc.name)
    return entry.comment if isinstance(entry, PageRoute) else ""


def summary_of(comment: str) -> str:
    """The first sentence."""
    first = " ".join(comment.split("\n\n", 1)[0].split())
    return first.split(". ")[0].rstrip(".")
