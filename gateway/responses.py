"""
What an operation may answer that is no success, status by status.

The body is google.rpc.Status, or RFC 9457's problem where Accept asks for that.  Statuses that any
request can meet are components of the document, which operations refer to.
"""

from __future__ import annotations

from typing import Any

STATUS = "google.rpc.Status"
PROBLEM = "Problem"
_DETAILS = {
    "type": "array",
    "description": "google.rpc.ErrorInfo, BadRequest, RetryInfo and their like.",
    "items": {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "required": ["@type"],
        "additionalProperties": True,
    },
}
SCHEMAS: dict[str, Any] = {
    STATUS: {
        "type": "object",
        "description": "What went wrong.",
        "properties": {
            "code": {"type": "integer", "description": "google.rpc.Code.", "minimum": 1},
            "message": {"type": "string"},
            "details": _DETAILS,
        },
        "required": ["code", "message", "details"],
    },
    PROBLEM: {
        "type": "object",
        "description": "What went wrong, as RFC 9457 says it.",
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string"},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "code": {"type": "string", "description": "The name of the google.rpc.Code."},
            "details": _DETAILS,
        },
        "required": ["type", "title", "status", "detail", "code", "details"],
    },
}
# What every answer says, but those that the HTTP server gives by itself to what is no request.
HEADERS = {
    "RequestId": {
        "description": "The request's own X-Request-Id, or the one that was made up for it: what to"
        " look for in logs.",
        "schema": {"type": "string", "pattern": r"^[A-Za-z0-9._-]{1,128}$"},
    }
}
NAMED = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
RETRY_AFTER = {
    "description": "Whole seconds until it is worth asking again.",
    "schema": {"type": "integer", "minimum": 1},
}
# What each of them says; by whom it can be met is below.
ANSWERS: dict[str, str] = {
    "400": "The request is wrong; or it is right and the state of things forbids it"
    " (FAILED_PRECONDITION).",
    "401": "Nobody known asks.",
    "403": "Who asks may not.",
    "404": "There is no such thing.",
    "408": "The body did not arrive in time.",
    "409": "It is there already, or somebody else is changing it; or a request with the same"
    " idempotency key is still being served.",
    "413": "The body is too large, as it was sent or once it is unpacked.",
    "415": "The body is of a type, or in an encoding, that is not read here.",
    "422": "The idempotency key belongs to another request.",
    "426": "It must be opened as a WebSocket.",
    "429": "Too much was asked for.",
    "431": "The headers are too large.",
    "499": "The call was cancelled.",
    "500": "The service or the gateway failed.",
    "501": "The service has no such method.",
    "503": "The service, or the gateway, cannot answer now.",
    "504": "There was no answer in time.",
}
ALWAYS = ("400", "403", "404", "409", "429", "431", "499", "500", "501", "503", "504")
WITH_BODY = ("408", "413", "415")


def _headers(status: str) -> dict[str, Any]:
    found: dict[str, Any] = dict(NAMED)
    if status in ("409", "429", "503"):
        found["Retry-After"] = RETRY_AFTER | ({"required": True} if status == "503" else {})
    if status == "401":
        found["WWW-Authenticate"] = {"required": True, "schema": {"type": "string"}}
    return {"headers": found}


def error(description: str = "What went wrong.", status: str = "") -> dict[str, Any]:
    """An answer that says what went wrong."""
    return {
        "description": description,
        **_headers(status),
        "content": {
            "application/json": {"schema": {"$ref": f"#/components/schemas/{STATUS}"}},
            "application/problem+json": {"schema": {"$ref": f"#/components/schemas/{PROBLEM}"}},
        },
    }


def components() -> dict[str, Any]:
    """The document's components.responses."""
    return {f"Error{status}": error(text, status) for status, text in ANSWERS.items()}


def errors(*, body: bool, keyed: bool, guarded: bool) -> dict[str, Any]:
    """What an operation refers to: one that takes a body, has a key, asks who it is."""
    statuses = [
        *ALWAYS,
        *(WITH_BODY if body else ()),
        *(("422",) if keyed else ()),
        *(("401",) if guarded else ()),
    ]
    shown = {
        status: {"$ref": f"#/components/responses/Error{status}"} for status in sorted(statuses)
    }
    return {**shown, "default": error()}
