"""
JSON Schema (2020-12, as OpenAPI 3.1 takes it) of messages, from descriptors, comments and rules.

A message is a component by its full name, as it is printed; as it may be sent it is another one,
`<name>-Input`: fields may be null or left out where their rules let the zero value through, and
buf.validate's bounds stand in it.  Well-known types are written in place, as their JSON is.
"""

from __future__ import annotations

from typing import Any

from google.api import field_behavior_pb2
from google.protobuf.descriptor import Descriptor

from gateway import cel, wellknown
from gateway.allowed import ANYTHING, Allowed, allowed, rules_of
from gateway.codec import ANY
from gateway.contract import Contract
from gateway.plan import is_map
from gateway.values import INTEGERS, F, Schema, Use, integer, scalar, zero_passes

_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
_MASK = r"^(?:[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*(?:,[A-Za-z0-9]+(?:\.[A-Za-z0-9]+)*)*)?$"
_WELL_KNOWN: dict[str, Schema] = {
    "google.protobuf.Timestamp": {
        "type": "string",
        "format": "date-time",
        "pattern": _MOMENT + r"(?:Z|[+-][0-9]{2}:[0-9]{2})$",
    },
    "google.protobuf.Duration": {
        "type": "string",
        "pattern": r"^-?[0-9]{1,11}(?:\.[0-9]{1,9})?s$",
    },
    "google.protobuf.FieldMask": {
        "type": "string",
        "description": "Paths joined by commas.",
        "pattern": _MASK,
    },
    "google.protobuf.Struct": {"type": "object"},
    "google.protobuf.ListValue": {"type": "array"},
    "google.protobuf.Value": {},
    ANY: {
        "type": "object",
        "properties": {"@type": {"type": "string"}},
        "additionalProperties": True,
    },
}
# What a PATCH cannot change.
FIXED = frozenset(
    {
        field_behavior_pb2.OUTPUT_ONLY,
        field_behavior_pb2.IDENTIFIER,
        field_behavior_pb2.IMMUTABLE,
    }
)


class Schemas:
    """The components that a document refers to, gathered as it does."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(
        self, contract: Contract, message: Descriptor, use: Use, rule: Allowed = ANYTHING
    ) -> Schema:
        """The schema of a message: a reference, or a well-known type's own."""
        name = message.full_name
        if name in _WELL_KNOWN:
            return dict(_WELL_KNOWN[name])
        if name in wellknown.WRAPPERS:
            return self.of_value(contract, message.fields_by_name["value"], use, rule)
        if rule.inside:  # rules of this place alone
            return self.whole(contract, message, use, rule)
        name = f"{name}-Input" if use is Use.INPUT else name
        if name not in self.components:
            self.components[name] = {}  # a message that holds itself finds this
            self.components[name].update(self.whole(contract, message, use))
        return {"$ref": f"#/components/schemas/{name}"}

    def whole(
        self, contract: Contract, message: Descriptor, use: Use, rule: Allowed = ANYTHING
    ) -> Schema:
        """The object itself."""
        schema: Schema = {"type": "object"}
        if comment := contract.comment(message.full_name):
            schema["description"] = comment
        rules = {
            field.name: rule_of(field).and_(rule.inside.get(field.name, ANYTHING))
            for field in message.fields
        }
        schema["properties"] = {
            field.json_name: self.of_field(contract, field, use, rules[field.name])
            for field in message.fields
        }
        schema["additionalProperties"] = False
        required = [
            field.json_name
            for field in message.fields
            if (use is Use.REPLY and not field.has_presence)
            or (use is Use.INPUT and needed(field, rules[field.name]))
        ]
        if required:
            schema["required"] = required
        if use is Use.INPUT and (alone := _alone(message)):
            schema["allOf"] = alone
        return schema

    def patched(self, contract: Contract, message: Descriptor, bound: frozenset[str]) -> Schema:
        """The object as a PATCH takes it: nothing is needed, null clears, what is fixed is not."""
        schema = self.whole(contract, message, Use.INPUT)
        schema.pop("required", None)
        for field in message.fields:
            if field.name in bound or (changed_never(field) and not output_only(field)):
                schema["properties"].pop(field.json_name)
            elif not output_only(field):
                schema["properties"][field.json_name] = _nullable(
                    schema["properties"][field.json_name]
                )
        return schema

    def of_field(
        self, contract: Contract, field: Any, use: Use, rule: Allowed | None = None
    ) -> Schema:
        rule = rule_of(field) if rule is None else rule
        items = rule.items or ANYTHING
        if is_map(field):
            keys, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
            schema: Schema = {
                "type": "object",
                "additionalProperties": self.of_value(contract, value, use, items),
            }
            if use is not Use.REPLY:
                schema |= _counted(rule, "minProperties", "maxProperties")
                schema["propertyNames"] = _key(keys, rule.keys or ANYTHING)
        elif field.is_repeated:
            schema = {"type": "array", "items": self.of_value(contract, field, use, items)}
            if use is not Use.REPLY:
                schema |= _counted(rule, "minItems", "maxItems")
                schema |= {"uniqueItems": True} if rule.unique else {}
        else:
            schema = self.of_value(contract, field, use, rule)
        if use is Use.INPUT and not needed(field, rule) and not _in_oneof(field):
            schema = _nullable(schema)
        comment = contract.comment(field.full_name)
        if use is not Use.REPLY:  # a rule in CEL has words of its own, understood here or not
            comment = "\n".join([*filter(None, [comment]), *_messages(field)])
        if comment:
            schema["description"] = comment
        if output_only(field):
            schema["readOnly"] = True
        return schema

    def of_value(self, contract: Contract, field: Any, use: Use, rule: Allowed) -> Schema:
        """One value of a field, as if it were not repeated."""
        if field.message_type is not None:
            return self.of(contract, field.message_type, use, rule)
        if use is Use.REPLY:
            rule = ANYTHING
        schema = scalar(field, use, rule)
        if rule.zero_passes and use is not Use.REPLY:
            return {"anyOf": [schema, {"enum": [_zero(field)]}]}
        return schema


def rule_of(field: Any) -> Allowed:
    """What buf.validate lets a field hold, CEL as far as it is understood."""
    rules = rules_of(field)
    rule = allowed(rules)
    for expression in (*(each.expression for each in rules.cel), *rules.cel_expression):
        rule = rule.and_(cel.understood(expression))
    return rule


def _messages(field: Any) -> list[str]:
    return [f"It {each.message}." for each in rules_of(field).cel if each.message]


def behavior(field: Any) -> list[int]:
    """google.api.field_behavior of a field."""
    return list(field.GetOptions().Extensions[field_behavior_pb2.field_behavior])


def output_only(field: Any) -> bool:
    return field_behavior_pb2.OUTPUT_ONLY in behavior(field)


def changed_never(field: Any) -> bool:
    """Whether no PATCH may name it."""
    return not FIXED.isdisjoint(behavior(field))


def needed(field: Any, rule: Allowed | None = None) -> bool:
    """Whether a message without the field would be refused."""
    if output_only(field):
        return False
    rule = rule_of(field) if rule is None else rule
    return field_behavior_pb2.REQUIRED in behavior(field) or not zero_passes(field, rule)


def _in_oneof(field: Any) -> bool:
    oneof = field.containing_oneof
    return oneof is not None and len(oneof.fields) > 1


def _alone(message: Descriptor) -> list[Schema]:
    """Of the fields of a oneof at most one is given."""
    found: list[Schema] = []
    for oneof in message.oneofs:
        names = [field.json_name for field in oneof.fields]
        pairs = [[a, b] for at, a in enumerate(names) for b in names[at + 1 :]]
        if pairs:
            found.append({"not": {"anyOf": [{"required": pair} for pair in pairs]}})
    return found


def _nullable(schema: Schema) -> Schema:
    """The schema, or null, which is how ProtoJSON leaves a field out."""
    kind = schema.get("type")
    if isinstance(kind, list):
        return schema if "null" in kind else {**_with_null(schema), "type": [*kind, "null"]}
    if isinstance(kind, str):
        return schema if kind == "null" else {**_with_null(schema), "type": [kind, "null"]}
    if "anyOf" in schema:
        return {**schema, "anyOf": [*schema["anyOf"], {"type": "null"}]}
    return {"anyOf": [schema, {"type": "null"}]} if schema else schema


def _with_null(schema: Schema) -> Schema:
    return schema | ({"enum": [*schema["enum"], None]} if "enum" in schema else {})


def _counted(rule: Allowed, least: str, most: str) -> Schema:
    at_least = max(rule.min_items or 0, 1 if rule.required else 0)
    return ({least: at_least} if at_least else {}) | (
        {most: rule.max_items} if rule.max_items is not None else {}
    )


def _key(field: Any, rule: Allowed) -> Schema:
    """A map's key, which is always a string in JSON."""
    if field.type in INTEGERS:
        as_text: Schema = integer(field.type, Use.INPUT, rule)["anyOf"][1]
        return as_text
    if field.type == F.TYPE_BOOL:
        return {"enum": ["true", "false"]}
    return scalar(field, Use.INPUT, rule)


def _zero(field: Any) -> Any:
    if field.type == F.TYPE_BOOL:
        return False
    return "" if field.type in (F.TYPE_STRING, F.TYPE_BYTES) else 0
