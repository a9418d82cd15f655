"""
Requests are checked against the buf.validate rules of their contract, before any handler sees them.

grpcurl, stubs and REST so get one and the same error: INVALID_ARGUMENT with one BadRequest field
violation for each broken rule and ErrorInfo INVALID_REQUEST.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import protovalidate
from google.protobuf.message import Message

from mesh.errors import Code, StatusError

REASON = "INVALID_REQUEST"

# More would not fit into the trailers; the message says how many there were.
MAX_VIOLATIONS = 20

Check = Callable[[Any], None]


def checker() -> Check:
    """A function that returns for a valid message and raises StatusError for any other."""
    validator = protovalidate.Validator()

    def check(message: Any) -> None:
        # Handlers without a deserializer take bytes: there is nothing to check.
        if not isinstance(message, Message):
            return
        violations = validator.collect_violations(message)
        if violations:
            raise _refused(violations)

    return check


def _refused(violations: list[protovalidate.Violation]) -> StatusError:
    fields = [
        (path(each.proto.field), each.proto.message or each.proto.rule_id)
        for each in violations[:MAX_VIOLATIONS]
    ]
    first, why = fields[0]
    more = f" (and {len(violations) - 1} more)" if len(violations) > 1 else ""
    return StatusError(
        Code.INVALID_ARGUMENT,
        f"{first}: {why}{more}" if first else f"{why}{more}",
        reason=REASON,
        domain="proxyless",
        fields=fields,
    )


def path(field: Any) -> str:
    """`order.items[2].quantity` or `labels["zone"]`; "" for a rule on the message as a whole."""
    if field is None:
        return ""
    said = ""
    for element in field.elements:
        said += f".{element.field_name}" if said else element.field_name
        subscript = element.subscript
        if subscript is not None:
            value = subscript.value
            said += f'["{value}"]' if isinstance(value, str) else f"[{_plain(value)}]"
    return said


def _plain(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
