"""
OpenAPI 3.1 of everything that is served, from descriptors and the comments in the .proto files.

Two templates that differ only in their variables' names are one path there, with the names of the
first; fields that no body holds are query parameters, nested ones with dots.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from gateway import responses
from gateway.catalog import Catalog, Entry
from gateway.compose import PageRoute
from gateway.jsontext import dumps
from gateway.operation import Described, operation
from gateway.rest import Served
from gateway.router import ANY_METHOD
from gateway.rule import Literal, Variable
from gateway.schema import Schemas

METHODS = frozenset({"GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE"})
SCHEMES: Mapping[str, dict[str, str]] = {
    "api_keys": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
    "tokens": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


class Document:
    """
    The newest document asked for: built in a thread, since it takes as long as many requests do.

    Whoever asks while it is built waits for the same; what was built is kept until what is served
    changes.
    """

    def __init__(self) -> None:
        self._of: tuple[object, ...] = ()
        self._building: asyncio.Task[bytes] | None = None

    async def of(self, catalog: Catalog, guard: Mapping[str, object] | None = None) -> bytes:
        """The document of this catalog; see `document`."""
        made_of = (tuple(catalog.router.entries), _schemes(guard))
        building = self._building
        if building is None or made_of != self._of or _failed(building):
            building = asyncio.create_task(asyncio.to_thread(_document, *made_of))
            self._of, self._building = made_of, building
        return await asyncio.shield(building)  # the others' as well as of whom may leave


def document(catalog: Catalog, guard: Mapping[str, object] | None = None) -> bytes:
    """The document; `guard` says what is asked of who asks."""
    return _document(tuple(catalog.router.entries), _schemes(guard))


def _schemes(guard: Mapping[str, object] | None) -> tuple[str, ...]:
    return tuple(name for name in SCHEMES if (guard or {}).get(name))


def _failed(building: asyncio.Task[bytes]) -> bool:
    return building.done() and (building.cancelled() or building.exception() is not None)


def _document(entries: tuple[Entry, ...], schemes: tuple[str, ...]) -> bytes:
    schemas = Schemas()
    paths: dict[str, dict[str, Any]] = {}
    shapes: dict[str, tuple[str, list[str]]] = {}
    described: list[Described] = []
    tags: dict[str, str] = {}
    used: set[str] = set()
    for entry in entries:
        if entry.http_method == ANY_METHOD or entry.http_method not in METHODS:
            continue  # OpenAPI has no word for it
        if not isinstance(entry, PageRoute | Served):
            continue  # nobody has told us what an old service's path takes
        path, names = _path(entry, shapes)
        if isinstance(entry, Served):
            one = operation(entry, names, schemas, used, guarded=bool(schemes))
            described.append(one)
            tags.setdefault(one.tag, one.about)
            shown = one.shown
        else:
            shown = _page(entry, names, guarded=bool(schemes))
            tags.setdefault("pages", "Pages made of several calls.")
        paths.setdefault(path, {})[entry.http_method.lower()] = shown
    for one in described:
        one.link(described)
    return dumps(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Proxyless gateway",
                "version": "1",
                "description": "REST for the gRPC services of this mesh.",
            },
            "paths": dict(sorted(paths.items())),
            "tags": [
                {"name": name} | ({"description": about} if about else {})
                for name, about in sorted(tags.items())
            ],
            "components": {
                "schemas": dict(sorted({**schemas.components, **responses.SCHEMAS}.items())),
                "responses": responses.components(),
                "headers": responses.HEADERS,
                "securitySchemes": {name: SCHEMES[name] for name in schemes},
            },
            # One of them is enough.
            **({"security": [{name: []} for name in schemes]} if schemes else {}),
        }
    )


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


def _page(entry: PageRoute, names: list[str], *, guarded: bool) -> dict[str, Any]:
    string = {"schema": {"type": "string"}}
    segment = {"schema": {"type": "string", "minLength": 1}}
    page = {
        "type": "object",
        "properties": {
            "missing": {
                "type": "array",
                "description": "What could not be had.",
                "items": {
                    "type": "object",
                    "properties": {
                        name: {"type": "string"} for name in ("part", "code", "message")
                    },
                    "required": ["part", "code", "message"],
                },
            }
        },
        "required": ["missing"],
        "additionalProperties": True,
    }
    return {
        "operationId": f"page_{entry.name.removeprefix('page ')}",
        "tags": ["pages"],
        "summary": summary_of(entry.comment),
        "description": entry.comment,
        "parameters": [
            *({"name": name, "in": "path", "required": True, **segment} for name in names),
            *({"name": name, "in": "query", **string} for name in entry.query),
        ],
        "responses": {
            "200": {
                "description": "The page.",
                "headers": responses.NAMED,
                "content": {"application/json": {"schema": page}},
            },
            **responses.errors(body=False, keyed=False, guarded=guarded),
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
