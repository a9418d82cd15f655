"""
A field that is given as text: in the path or in the query.

    page_size=50   pageSize=50   address.city=Basel   tags=a&tags=b   labels[color]=red
    status=ORDER_STATUS_PAID   status=3   since=2026-01-02T03:04:05Z   wait=true   mask=note,price

Text is not JSON: true and false are words here, and numbers come in digits.  Messages other than
times, durations, masks and wrappers are given field by field.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from gateway import scalars, wellknown
from gateway.invalid import Invalid, shown
from gateway.mask import FIELD_MASK
from gateway.plan import is_map

_KEYED = re.compile(r"(?P<path>[^\[\]]+)\[(?P<key>[^\[\]]*)\]")
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_PATH = re.compile(r"[A-Za-z0-9_]+(?:\.[A-Za-z0-9_]+)*|\*")


def find(message: Descriptor, parameter: str) -> tuple[list[Any], str | None]:
    """The fields along a query parameter's name, and the key where it names an entry of a map."""
    keyed = _KEYED.fullmatch(parameter)
    names = (keyed["path"] if keyed else parameter).split(".")
    fields: list[Any] = []
    at: Descriptor | None = message
    for name in names:
        field = _field(at, name)
        if field is None or (fields and fields[-1].is_repeated):
            raise Invalid("no such parameter", parameter, "UNKNOWN_PARAMETER")
        fields.append(field)
        at = field.message_type
    if is_map(fields[-1]) != bool(keyed):
        why = "is a map: give its entries as name[key]" if not keyed else "is not a map"
        raise Invalid(why, parameter)
    return fields, keyed["key"] if keyed else None


def _field(message: Descriptor | None, name: str) -> Any:
    if message is None or is_map_entry(message):
        return None
    found = message.fields_by_name.get(name)
    if found is None:
        found = next((field for field in message.fields if field.json_name == name), None)
    return found


def is_map_entry(message: Descriptor) -> bool:
    return bool(message.GetOptions().map_entry)


def put(message: Any, fields: list[Any], text: str, key: str | None = None) -> None:
    """Set the field at the end of `fields` in `message` from `text`, or raise Invalid."""
    *outer, last = fields
    for field in outer:
        _check_oneof(message, field)
        message = getattr(message, field.name)
        message.SetInParent()
    if is_map(last):
        _put_entry(getattr(message, last.name), last, key or "", text)
    elif last.is_repeated:
        items = getattr(message, last.name)
        if last.message_type is not None:
            _fill(items.add(), text)
        else:
            items.append(scalar(last, text))
    elif last.message_type is not None:
        _check_oneof(message, last)
        inner = getattr(message, last.name)
        inner.SetInParent()
        _fill(inner, text)
    else:
        _check_oneof(message, last)
        setattr(message, last.name, scalar(last, text))


def get(message: Any, fields: list[Any]) -> Any:
    """The value at the end of `fields`; None where nothing was given."""
    for field in fields:
        if field.has_presence and not message.HasField(field.name):
            return None
        message = getattr(message, field.name)
    last = fields[-1]
    return None if not last.has_presence and message == last.default_value else message


def scalar(field: Any, text: str) -> Any:
    """The value of a field that is no message."""
    if field.type == FieldDescriptor.TYPE_BOOL:
        if text not in ("true", "false"):
            raise Invalid(f"{shown(text)} is not true or false")
        return text == "true"
    if field.type == FieldDescriptor.TYPE_ENUM and _INTEGER.fullmatch(text):
        return scalars.reader(field)(int(text))
    return scalars.reader(field)(text)


def _fill(message: Any, text: str) -> None:
    descriptor = message.DESCRIPTOR
    name = descriptor.full_name
    if name == FIELD_MASK:
        # A mask in a URL is also taken as the .proto spells it.
        for path in text.split(",") if text else []:
            if not _PATH.fullmatch(path):
                raise Invalid(f"{shown(path)} is not a path of a field mask")
            message.paths.append(wellknown.snake(path))
    elif name in wellknown.TEXT:
        wellknown.TEXT[name][0](text, message)
    elif name in wellknown.WRAPPERS:
        message.value = scalar(descriptor.fields_by_name["value"], text)
    else:
        raise Invalid("is a message: give its fields")


def _put_entry(entries: Any, field: Any, key: str, text: str) -> None:
    key_field = field.message_type.fields_by_name["key"]
    value_field = field.message_type.fields_by_name["value"]
    place = scalar(key_field, key)
    if place in entries:
        raise Invalid("is given twice")
    if value_field.message_type is not None:
        _fill(entries[place], text)
    else:
        entries[place] = scalar(value_field, text)


def _check_oneof(message: Any, field: Any) -> None:
    oneof = field.containing_oneof
    if oneof is not None:
        other = message.WhichOneof(oneof.name)
        if other is not None and other != field.name:
            raise Invalid(f"cannot be given together with {shown(other)}")
