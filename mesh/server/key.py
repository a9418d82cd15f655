"""
The idempotency key of a request, whose it is, and the fingerprint that tells requests apart.

The key is metadata `idempotency-key` or the top-level string field `request_id`.  The fingerprint
is taken over protobuf's deterministic bytes, never over JSON text, and leaves out what does not
change what is asked: the key itself and `wait`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.message import Message

from mesh.errors import Code, StatusError
from mesh.identity.caller import CALLER
from mesh.status import DOMAIN

KEY = "idempotency-key"
FIELD = "request_id"
IRRELEVANT = (FIELD, "wait")

READ_ONLY = descriptor_pb2.MethodOptions.NO_SIDE_EFFECTS

# Stripe's bound, and what fits into a log line.
MAX_CHARACTERS = 255


def key_of(request: object, metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The one key of this call, None without one; two that differ are an error."""
    keys = [str(value) for name, value in metadata if name == KEY and value]
    field = _text_field(request)
    if field:
        keys.append(field)
    if not keys:
        return None
    first, *others = keys
    for other in others:
        if other != first:
            raise _invalid(
                f"metadata {KEY} and field {FIELD} name different keys", "IDEMPOTENCY_KEY_MISMATCH"
            )
    if len(first) > MAX_CHARACTERS:
        raise _invalid(
            f"the idempotency key has {len(first)} characters, more than {MAX_CHARACTERS}",
            "IDEMPOTENCY_KEY_INVALID",
        )
    return first


def fingerprint(request: Message) -> bytes:
    """The same for two requests exactly when they ask for the same thing."""
    bare = type(request)()
    bare.CopyFrom(request)
    for name in IRRELEVANT:
        if name in request.DESCRIPTOR.fields_by_name:
            bare.ClearField(name)
    said = bare.SerializeToString(deterministic=True)
    return hashlib.sha256(request.DESCRIPTOR.full_name.encode() + b"\0" + said).digest()


def is_read(method: str) -> bool:
    """Whether the contract declares the rpc free of effects; then a key means nothing."""
    try:
        found = descriptor_pool.Default().FindMethodByName(method.lstrip("/").replace("/", "."))
    except KeyError:
        return False
    return found.GetOptions().idempotency_level == READ_ONLY


def caller_of(context: Any) -> str:
    """Who calls: as it is proven, else the certified name of the peer, "" where nobody asks."""
    caller = CALLER.get()
    if caller is not None:
        return f"{caller.principal} {caller.subject}".rstrip()
    identities = context.peer_identities() or ()
    return ",".join(sorted(each.decode(errors="replace") for each in identities))


def _text_field(request: object) -> str:
    if not isinstance(request, Message):
        return ""
    field = request.DESCRIPTOR.fields_by_name.get(FIELD)
    if field is None or field.type != field.TYPE_STRING or field.is_repeated:
        return ""
    return str(getattr(request, FIELD))


def _invalid(message: str, reason: str) -> StatusError:
    return StatusError(
        Code.INVALID_ARGUMENT, message, reason=reason, domain=DOMAIN, fields=[(FIELD, message)]
    )
