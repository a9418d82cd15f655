"""A contract that has one of everything, made here so that no service needs to."""

from __future__ import annotations

from functools import lru_cache

from google.api import annotations_pb2  # noqa: F401  its extension is in the text below
from google.protobuf import (
    any_pb2,
    descriptor_pb2,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    text_format,
    timestamp_pb2,
    wrappers_pb2,
)

from gateway.contract import Contract

SCALARS = [
    *("double", "float", "bool", "string", "bytes"),
    *("int64", "uint64", "sint64", "fixed64", "sfixed64"),
    *("int32", "uint32", "sint32", "fixed32", "sfixed32"),
]
WRAPPERS = ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"]
FILES = (
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)


def _field(name: str, number: int, kind: str, label: str = "OPTIONAL", extra: str = "") -> str:
    if kind.startswith("."):
        what = "ENUM" if kind.endswith(("Color", "NullValue")) else "MESSAGE"
        shown = f"type: TYPE_{what} type_name: '{kind}'"
    else:
        shown = f"type: TYPE_{kind.upper()}"
    return f"field {{ name: '{name}' number: {number} label: LABEL_{label} {shown} {extra} }}"


def _messages() -> str:
    fields, entries, number = [], [], 1
    for kind in SCALARS:
        fields.append(_field(f"{kind}_one", number, kind))
        fields.append(_field(f"{kind}_many", number + 1, kind, "REPEATED"))
        number += 2
    known = {
        "time": "Timestamp",
        "span": "Duration",
        "mask": "FieldMask",
        "free": "Struct",
        "any_value": "Value",
        "any_list": "ListValue",
        "boxed": "Any",
        **{f"{name.lower()}_box": f"{name}Value" for name in WRAPPERS},
    }
    for name, kind in known.items():
        fields.append(_field(name, number, f".google.protobuf.{kind}"))
        fields.append(_field(f"{name}_many", number + 1, f".google.protobuf.{kind}", "REPEATED"))
        number += 2
    for key, value in (
        ("string", "string"),
        ("int32", "string"),
        ("bool", "int64"),
        ("uint64", "double"),
        ("string", ".kitchen.Plate"),
        ("string", ".kitchen.Color"),
    ):
        tail = value.rpartition(".")[2].lower()
        name = f"{key}_to_{tail}"
        entry = "".join(part.title() for part in name.split("_")) + "Entry"
        fields.append(_field(name, number, f".kitchen.All.{entry}", "REPEATED"))
        entries.append(
            f"nested_type {{ name: '{entry}' {_field('key', 1, key)} {_field('value', 2, value)}"
            " options { map_entry: true } }"
        )
        number += 1
    fields += [
        _field("color", 90, ".kitchen.Color"),
        _field("colors", 91, ".kitchen.Color", "REPEATED"),
        _field("nothing", 92, ".google.protobuf.NullValue"),
        _field("plate", 93, ".kitchen.Plate"),
        _field("plates", 94, ".kitchen.Plate", "REPEATED"),
        _field("self", 95, ".kitchen.All"),
        _field("odd_Name__x", 96, "string"),
        _field("maybe", 97, "string", extra="proto3_optional: true oneof_index: 1"),
        _field("left", 98, "string", extra="oneof_index: 0"),
        _field("right", 99, "int32", extra="oneof_index: 0"),
        _field("middle", 100, ".kitchen.Plate", extra="oneof_index: 0"),
    ]
    return (
        f"message_type {{ name: 'All' {' '.join(fields)} {' '.join(entries)}"
        " oneof_decl { name: 'side' } oneof_decl { name: '_maybe' } }"
        f" message_type {{ name: 'Plate' {_field('name', 1, 'string')}"
        f" {_field('size', 2, 'int64')} {_field('on', 3, '.kitchen.Plate')} }}"
    )


def _rpc(name: str, rule: str) -> str:
    return (
        f"method {{ name: '{name}' input_type: '.kitchen.All' output_type: '.kitchen.All'"
        f" options {{ [google.api.http] {{ {rule} }} }} }}"
    )


FILE = f"""
name: 'kitchen.proto' package: 'kitchen' syntax: 'proto3'
{" ".join(f"dependency: '{module.DESCRIPTOR.name}'" for module in FILES)}
dependency: 'google/api/annotations.proto'
{_messages()}
enum_type {{ name: 'Color'
  value {{ name: 'COLOR_UNSPECIFIED' number: 0 }}
  value {{ name: 'RED' number: 1 }} value {{ name: 'CRIMSON' number: 1 }}
  value {{ name: 'MINUS' number: -1 }} options {{ allow_alias: true }} }}
service {{ name: 'Kitchen'
  {_rpc("Query", "get: '/query'")}
  {_rpc("Path", "get: '/path/{string_one}/{int32_one}/{color}/{bool_one}/{time}/{plate.name}'")}
  {_rpc("Body", "post: '/body/{string_one}' body: '*'")}
  {_rpc("Part", "patch: '/part/{plate.name}' body: 'plate'")}
  {_rpc("Many", "post: '/many' body: 'plates' response_body: 'plates'")}
}}
"""


@lru_cache(maxsize=1)
def contract() -> Contract:
    file = descriptor_pb2.FileDescriptorProto()
    text_format.Parse(FILE, file)
    return Contract([file], ["kitchen.Kitchen"])
