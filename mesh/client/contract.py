"""
What the contract says of a method: read from its descriptor, once, by its path.

Nothing is written down a second time: `idempotency_level` and the `request_id` field that makes a
call repeatable both come from the .proto, through the default descriptor pool, where generated
code puts them.  A method that the pool does not know may have side effects.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from google.protobuf import descriptor, descriptor_pb2, descriptor_pool

from mesh.call import Idempotency, Kind, Method

KEY = "idempotency-key"
REQUEST_ID = "request_id"


@lru_cache(maxsize=4096)
def read(path: str, kind: Kind) -> tuple[Method, bool]:
    """The method at "/package.Service/Method", and whether its request names its own key."""
    found = _find(path)
    if found is None:
        return Method(path, kind), False
    level = found.GetOptions().idempotency_level
    field = found.input_type.fields_by_name.get(REQUEST_ID)
    keyed = (
        field is not None
        and field.type == descriptor.FieldDescriptor.TYPE_STRING
        and not field.is_repeated
        and kind in (Kind.UNARY_UNARY, Kind.UNARY_STREAM)
    )
    return Method(path, kind, _LEVELS[level]), keyed


@lru_cache(maxsize=4096)
def known(path: str) -> bool:
    """Whether the pool has a contract for the method."""
    return _find(path) is not None


def key_of(request: Any, keyed: bool, metadata: Iterable[tuple[str, str | bytes]]) -> str | None:
    """The call's idempotency key, where it has one: with it, asking twice is asking once."""
    if keyed and (key := getattr(request, REQUEST_ID, None)):
        return str(key)
    for name, value in metadata:
        if name == KEY and value:
            return value if isinstance(value, str) else value.decode("ascii", "replace")
    return None


def _find(path: str) -> descriptor.MethodDescriptor | None:
    service, _, method = path.lstrip("/").partition("/")
    try:
        return descriptor_pool.Default().FindMethodByName(f"{service}.{method}")
    except KeyError:
        return None


_OPTIONS = descriptor_pb2.MethodOptions
_LEVELS = {
    _OPTIONS.IDEMPOTENCY_UNKNOWN: Idempotency.UNKNOWN,
    _OPTIONS.NO_SIDE_EFFECTS: Idempotency.NO_SIDE_EFFECTS,
    _OPTIONS.IDEMPOTENT: Idempotency.IDEMPOTENT,
}
