"""
How one type of message is read from JSON, field by field, and what is wrong where it cannot be.

A descriptor is looked at once: its Plan says which reader each field has.  Types hold each other,
even themselves, so the plan of a field's type is looked up at its first value.  What nearly every
client sends never comes here: gateway.compiled reads it, and writes what goes back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

from gateway import scalars
from gateway.invalid import Invalid, shown

_INTEGER_KEY = re.compile(r"0|-?[1-9][0-9]*")

ReadField = Callable[[Any, Message, int], None]
ReadMessage = Callable[[Any, Any, int], None]


@dataclass(frozen=True, slots=True)
class FieldPlan:
    """One field: how it is read into its message."""

    name: str
    json_name: str
    read: ReadField
    # Whether null is a value (google.protobuf.Value, NullValue) and not the absence of one.
    takes_null: bool
    oneof: str | None


class Types(Protocol):
    """Who knows how the type of a field is read: the types."""

    def reader(self, descriptor: Descriptor) -> ReadMessage: ...


class Plan:
    """How one type of message is read, field by field."""

    def __init__(self) -> None:
        self.fields: dict[str, FieldPlan] = {}

    def fill(self, types: Types, descriptor: Descriptor) -> None:
        """Plan each field; a message that holds its own type finds this plan already there."""
        plans = [_plan_field(types, field) for field in descriptor.fields]
        for plan in plans:
            self.fields[plan.name] = plan
        for plan in plans:  # a JSON name beats another field's own name
            self.fields[plan.json_name] = plan

    def read(self, value: Any, message: Any, depth: int) -> None:
        if type(value) is not dict:
            raise Invalid(f"{shown(value)} is not an object")
        if depth <= 0:
            raise Invalid("is nested too deep")
        seen: dict[str, str] = {}
        for key, item in value.items():
            field = self.fields.get(key)
            if field is None:
                raise Invalid("no such field", key, "UNKNOWN_FIELD")
            if seen.setdefault(field.name, key) != key:
                raise Invalid(f"is given twice, also as {shown(seen[field.name])}", key)
            if item is None and not field.takes_null:
                continue
            try:
                if field.oneof is not None and (other := message.WhichOneof(field.oneof)):
                    raise Invalid(f"cannot be given together with {shown(seen.get(other, other))}")
                field.read(item, message, depth)
            except Invalid as error:
                error.under(key)
                raise


def is_map(field: FieldDescriptor) -> bool:
    message = field.message_type
    return message is not None and bool(message.GetOptions().map_entry)


def _plan_field(types: Types, field: Any) -> FieldPlan:
    oneof = field.containing_oneof
    enum = field.enum_type
    message = field.message_type
    read: ReadField
    if is_map(field):
        read = _read_map(types, field)
    elif field.is_repeated:
        read = _read_list(types, field)
    else:
        read = _read_one(types, field)
    return FieldPlan(
        name=field.name,
        json_name=field.json_name,
        read=read,
        takes_null=not field.is_repeated
        and (
            (message is not None and message.full_name == "google.protobuf.Value")
            or (enum is not None and enum.full_name == "google.protobuf.NullValue")
        ),
        oneof=oneof.name if oneof is not None else None,
    )


def _message_reader(types: Types, field: Any) -> ReadMessage:
    reader: list[ReadMessage] = []

    def read(value: Any, message: Any, depth: int) -> None:
        if not reader:
            reader.append(types.reader(field.message_type))
        reader[0](value, message, depth)

    return read


def _read_one(types: Types, field: Any) -> ReadField:
    name = field.name
    if field.message_type is not None:
        read_message = _message_reader(types, field)

        def read_submessage(value: Any, message: Any, depth: int) -> None:
            inner = getattr(message, name)
            inner.SetInParent()
            read_message(value, inner, depth - 1)

        return read_submessage
    scalar = scalars.reader(field)

    def read(value: Any, message: Any, depth: int) -> None:
        setattr(message, name, scalar(value))

    return read


def _read_list(types: Types, field: Any) -> ReadField:
    name = field.name
    append = _appender(types, field)

    def read(value: Any, message: Any, depth: int) -> None:
        if type(value) is not list:
            raise Invalid(f"{shown(value)} is not an array")
        items = getattr(message, name)
        done = 0
        try:
            for item in value:
                append(item, items, depth - 1)
                done += 1
        except Invalid as error:
            error.under(done)
            raise

    return read


def _appender(types: Types, field: Any) -> ReadMessage:
    if field.message_type is None:
        scalar = scalars.reader(field)
        return lambda item, items, depth: items.append(scalar(item))
    read_message = _message_reader(types, field)
    nullable = field.message_type.full_name == "google.protobuf.Value"

    def append(item: Any, items: Any, depth: int) -> None:
        if item is None and not nullable:
            raise Invalid("null is not an element")
        read_message(item, items.add(), depth)

    return append


def _read_map(types: Types, field: Any) -> ReadField:
    name = field.name
    key_field, value_field = (field.message_type.fields_by_name[part] for part in ("key", "value"))
    read_key = _key_reader(key_field)
    is_message = value_field.message_type is not None
    read_message = _message_reader(types, value_field) if is_message else None
    scalar = None if is_message else scalars.reader(value_field)
    nullable = is_message and value_field.message_type.full_name == "google.protobuf.Value"

    def read(value: Any, message: Any, depth: int) -> None:
        if type(value) is not dict:
            raise Invalid(f"{shown(value)} is not an object")
        entries = getattr(message, name)
        for key, item in value.items():
            try:
                if item is None and not nullable:
                    raise Invalid("null is not a value of a map")
                if read_message is not None:
                    read_message(item, entries[read_key(key)], depth - 2)  # in an entry
                elif scalar is not None:
                    entries[read_key(key)] = scalar(item)
            except Invalid as error:
                error.under(key)
                raise

    return read


def _key_reader(field: Any) -> Callable[[str], Any]:
    scalar = scalars.reader(field)
    if field.type == FieldDescriptor.TYPE_STRING:
        return scalar
    if field.type == FieldDescriptor.TYPE_BOOL:

        def boolean(key: str) -> bool:
            if key not in ("true", "false"):
                raise Invalid(f"{shown(key)} is not true or false")
            return key == "true"

        return boolean

    def integer(key: str) -> Any:
        # Only one spelling a number: "1" and "1.0" would be one entry given twice.
        if not _INTEGER_KEY.fullmatch(key):
            raise Invalid(f"{shown(key)} is not an integer")
        return scalar(key)

    return integer
