"""Random messages of the kitchen's contract, by a seed, with values that JSON can say."""

from __future__ import annotations

import math
import random
from typing import Any

from google.protobuf import message_factory

from tests.gateway import kitchen

CONTRACT = kitchen.contract()
DESCRIPTOR: Any = CONTRACT.pool.FindMessageTypeByName("kitchen.All")
All: Any = message_factory.GetMessageClass(DESCRIPTOR)
F = DESCRIPTOR.fields[0].__class__

INTEGERS = {
    "int32": (-(2**31), 2**31 - 1),
    "sint32": (-(2**31), 2**31 - 1),
    "sfixed32": (-(2**31), 2**31 - 1),
    "uint32": (0, 2**32 - 1),
    "fixed32": (0, 2**32 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "sint64": (-(2**63), 2**63 - 1),
    "sfixed64": (-(2**63), 2**63 - 1),
    "uint64": (0, 2**64 - 1),
    "fixed64": (0, 2**64 - 1),
}


def scalar(rng: random.Random, kind: str) -> Any:
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        return rng.choice([low, high, 0, 1, rng.randint(low, high)])
    if kind == "double":
        return rng.choice([0.0, 1.0, -1.5, 1e300, math.inf, -math.inf, math.nan, rng.random()])
    if kind == "float":
        return rng.choice([0.0, 0.1, 3.4e38, 1e-45, math.inf, math.nan, rng.random()])
    if kind == "bool":
        return rng.random() < 0.5
    if kind == "bytes":
        return rng.randbytes(rng.randint(0, 5))
    return "".join(rng.choice('aé漢\U0001f600\x00"\\/\u2028 ') for _ in range(rng.randint(0, 5)))


def fill(rng: random.Random, message: Any, depth: int = 2) -> Any:
    """Some of the fields of `message`, with values that JSON can say."""
    for field in message.DESCRIPTOR.fields:
        if rng.random() > 0.25:
            continue
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            fill_map(rng, field, getattr(message, field.name), depth)
        elif field.is_repeated:
            items = getattr(message, field.name)
            for _ in range(rng.randint(0, 3)):
                if field.message_type is not None:
                    fill_message(rng, items.add(), depth - 1)
                else:
                    items.append(one(rng, field))
        elif field.message_type is not None:
            inner = getattr(message, field.name)
            inner.SetInParent()
            fill_message(rng, inner, depth - 1)
        else:
            setattr(message, field.name, one(rng, field))
    return message


def one(rng: random.Random, field: Any) -> Any:
    if field.enum_type is not None:
        return 0 if field.enum_type.name == "NullValue" else rng.choice([0, 1, -1, 77])
    names = {getattr(F, f"TYPE_{kind.upper()}"): kind for kind in kitchen.SCALARS}
    return scalar(rng, names[field.type])


def fill_map(rng: random.Random, field: Any, entries: Any, depth: int) -> None:
    key, value = (field.message_type.fields_by_name[name] for name in ("key", "value"))
    for _ in range(rng.randint(0, 3)):
        if value.message_type is not None:
            fill_message(rng, entries[one(rng, key)], depth - 1)
        else:
            entries[one(rng, key)] = one(rng, value)


def fill_message(rng: random.Random, message: Any, depth: int) -> None:
    match message.DESCRIPTOR.name:
        case "Timestamp":
            message.seconds = rng.choice([-62135596800, 253402300799, 0, -1, 1_700_000_000])
            message.nanos = rng.choice([0, 1, 1000, 1_000_000, 999_999_999, 120_000_000])
        case "Duration":
            sign = rng.choice([1, -1])
            message.seconds = sign * rng.choice([0, 1, 315_576_000_000])
            message.nanos = sign * rng.choice([0, 1, 10_000, 500_000_000])
            if abs(message.seconds) > 1:
                message.nanos = 0
        case "FieldMask":
            message.paths.extend(rng.sample(["a", "b_c", "d.e_f", "g.h"], rng.randint(0, 3)))
        case "Struct":
            message.update({"a": 1.5, "b": [None, True, {"c": "x"}], "é": {}})
        case "Value":
            rng.choice(
                [
                    lambda: setattr(message, "null_value", 0),
                    lambda: setattr(message, "number_value", -2.5),
                    lambda: setattr(message, "string_value", "s"),
                    lambda: message.struct_value.update({"x": [1]}),
                ]
            )()
        case "ListValue":
            message.extend([1, None, "x", [True]])
        case "Any":
            if rng.random() < 0.7:
                inner = message_factory.GetMessageClass(
                    CONTRACT.pool.FindMessageTypeByName(
                        rng.choice(
                            [
                                "kitchen.Plate",
                                "google.protobuf.Timestamp",
                                "google.protobuf.Int64Value",
                                "google.protobuf.Struct",
                            ]
                        )
                    )
                )()
                if inner.DESCRIPTOR.name == "Plate":
                    fill(rng, inner, 0)
                message.type_url = f"type.googleapis.com/{inner.DESCRIPTOR.full_name}"
                message.value = inner.SerializeToString()
        case _ if depth >= 0:
            fill(rng, message, depth)
