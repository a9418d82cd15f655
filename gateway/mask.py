"""
Which fields a PATCH without a mask means: the ones its JSON body names.

    {"note": "ring twice", "address": {"city": "Basel"}, "labels": {"a": "b"}, "total": {...}}
    -> note, address.city, labels                     (total is OUTPUT_ONLY: ignored, AIP-203)

Leaf paths, by the .proto's names; lists, maps, Struct and Any whole; null clears the field, so it
counts; an empty object is the field itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor

from gateway import wellknown
from gateway.codec import ANY
from gateway.plan import is_map

FIELD_MASK = "google.protobuf.FieldMask"


def mask_field(message: Descriptor) -> str | None:
    """The one FieldMask of a request; None when it has none, or several."""
    found = [
        field.name
        for field in message.fields
        if field.message_type is not None
        and field.message_type.full_name == FIELD_MASK
        and not field.is_repeated
    ]
    return found[0] if len(found) == 1 else None


def infer(value: Any, message: Descriptor, bound: frozenset[tuple[str, ...]]) -> list[str]:
    """The mask that `value`, read as a `message`, implies; `bound` fields come from the path."""
    return [".".join(path) for path in _paths(value, message, ()) if path not in bound]


def _paths(value: Any, message: Any, above: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    names = {field.name: field for field in message.fields}
    names |= {field.json_name: field for field in message.fields}
    for key, item in value.items():
        field = names[key]
        path = (*above, field.name)
        behavior = field.GetOptions().Extensions[field_behavior_pb2.field_behavior]
        if field_behavior_pb2.OUTPUT_ONLY in behavior:
            continue
        if item and isinstance(item, dict) and _descends(field):
            yield from _paths(item, field.message_type, path)
        else:
            yield path


def _descends(field: Any) -> bool:
    name = field.message_type.full_name if field.message_type is not None else ""
    whole = (wellknown.TEXT, wellknown.FREE, wellknown.WRAPPERS, (ANY,))
    return bool(name) and not is_map(field) and not any(name in names for names in whole)
