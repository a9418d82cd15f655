"""
JSON Schema (2020-12, as OpenAPI 3.1 takes it) of messages, from their descriptors and comments.

A message is a component by its full name; well-known types are written in place, as their JSON is.
"""

from __future__ import annotations

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor

from gateway import wellknown
from gateway.codec import ANY
from gateway.contract import Contract
from gateway.plan import is_map

Schema = dict[str, Any]
F = FieldDescriptor

_INT32: Schema = {"type": "integer", "format": "int32"}
_INT64: Schema = {"type": ["string", "integer"], "format": "int64", "pattern": "^-?[0-9]+$"}
_UINT64: Schema = {"type": ["string", "integer"], "format": "uint64", "pattern": "^[0-9]+$"}
_UINT32: Schema = {"type": "integer", "format": "uint32", "minimum": 0}
_SCALARS: dict[int, Schema] = {
    F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    F.TYPE_FLOAT: {"type": "number", "format": "float"},
    **dict.fromkeys((F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32), _INT32),
    **dict.fromkeys((F.TYPE_UINT32, F.TYPE_FIXED32), _UINT32),
    **dict.fromkeys((F.TYPE_INT64, F.TYPE_SINT64, F.TYPE_SFIXED64), _INT64),
    **dict.fromkeys((F.TYPE_UINT64, F.TYPE_FIXED64), _UINT64),
    F.TYPE_BOOL: {"type": "boolean"},
    F.TYPE_STRING: {"type": "string"},
    F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {"type": "string", "format": "date-time"},
    "google.protobuf.Duration": {"type": "string", "pattern": r"^-?[0-9]+(\.[0-9]{1,9})?s$"},
    "google.protobuf.FieldMask": {"type": "string", "description": "Paths joined by commas."},
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
    ANY: {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
}


class Schemas:
    """The components that a document refers to, gathered as it does."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, contract: Contract, message: Descriptor) -> Schema:
        """The schema of a message: a reference, or a well-known type's own."""
        name = message.full_name
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        if name in wellknown.WRAPPERS:
            return self.of_value(contract, message.fields_by_name["value"])
        if name not in self.components:
            self.components[name] = {}  # a message that holds itself finds this
            self.components[name].update(self.whole(contract, message))
        return {"$ref": f"#/components/schemas/{name}"}

    def whole(self, contract: Contract, message: Descriptor) -> Schema:
        """The object itself."""
        schema: Schema = {"type": "object"}
        if comment := contract.comment(message.full_name):
            schema["description"] = comment
        schema["properties"] = {
            field.json_name: self.of_field(contract, field) for field in message.fields
        }
        schema["additionalProperties"] = False
        required = [
            field.json_name
            for field in message.fields
            if field_behavior_pb2.REQUIRED in behavior(field)
        ]
        return {**schema, "required": required} if required else schema

    def of_field(self, contract: Contract, field: Any) -> Schema:
        if is_map(field):
            value = field.message_type.fields_by_name["value"]
            schema: Schema = {
                "type": "object",
                "additionalProperties": self.of_value(contract, value),
            }
        elif field.is_repeated:
            schema = {"type": "array", "items": self.of_value(contract, field)}
        else:
            schema = self.of_value(contract, field)
        if comment := contract.comment(field.full_name):
            schema["description"] = comment
        if field_behavior_pb2.OUTPUT_ONLY in behavior(field):
            schema["readOnly"] = True
        return schema

    def of_value(self, contract: Contract, field: Any) -> Schema:
        """One value of a field, as if it were not repeated."""
        if field.enum_type is not None:
            return _of_enum(contract, field.enum_type)
        if field.message_type is not None:
            return self.of(contract, field.message_type)
        return dict(_SCALARS[field.type])


def behavior(field: Any) -> list[int]:
    """google.api.field_behavior of a field."""
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def _of_enum(contract: Contract, enum: EnumDescriptor) -> Schema:
    schema: Schema = {"type": "string", "enum": [value.name for value in enum.values]}
    if comment := contract.comment(enum.full_name):
        schema["description"] = comment
    return schema
